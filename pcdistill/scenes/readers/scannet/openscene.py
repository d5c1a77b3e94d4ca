"""Reader of ScanNet as OpenScene distributes it: tensors of points and labels, small images.

    scannet_3d/{train,val,test}/SCENE_vh_clean_2.pth    (coords, colors from -1 to 1, labels)
    scannet_2d/SCENE/color/N.jpg depth/N.png pose/N.txt
    scannet_2d/intrinsics.txt                           one camera for all

A scan may have its own camera: `intrinsics.txt`, or `intrinsic/intrinsic_color.txt` and
`intrinsic/intrinsic_depth.txt` as ScanNet's own export writes them. Frames were thinned and resized
when they were extracted: all are used, at their size, unless `frame_step` says otherwise. Without
scannet_2d/ the scans have points and labels, and no frames.
"""

from __future__ import annotations

import logging
import math
import pickle
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.scenes.checks.camera_checks import (
    MIDDLE,
    check_principal_point,
    is_centered,
    require_upright,
)
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.depth_limits import within_limit
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.images import COLOR_SUFFIXES, read_image_size
from pcdistill.scenes.formats.text import parse_numbers, read_rows
from pcdistill.scenes.frames import StoredFrame, check_camera
from pcdistill.scenes.label_sets import load_label_set
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder, require_readable
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Division, Reader, Refusal, Scan
from pcdistill.scenes.readers.capture.frame_checks import sample_depth_views
from pcdistill.scenes.readers.scannet.frames import openscene_intrinsics
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE
from pcdistill.size_limits import HOW_TO_RAISE, raised, unpacked_bytes

_LOG = logging.getLogger(__name__)

LABEL_SET = "scannet20"

_POINTS_FOLDER, _FRAMES_FOLDER = "scannet_3d", "scannet_2d"
_SUFFIX = "_vh_clean_2.pth"
_MAX_UNPACKED = 1 << 29  # bytes of one file of points
_MAX_MATRIX = 1 << 16  # bytes of a matrix in a text file
_COLOR_SLACK = 1e-3
_UNLABELLED = -100  # what OpenScene's loaders ignore besides the number of the label set


def find_scannet_extracted(folder: Path) -> tuple[Scan, ...]:
    """Scans of a folder with scannet_3d/ or scannet_2d/, of one of these, or one scan in them.

    A scan's `folder` is the one that holds scannet_3d/ and scannet_2d/, its `part` SPLIT/SCENE, or
    SCENE where only frames are there.
    """
    place = folder.resolve()
    if place.name.endswith(_SUFFIX) and place.parent.parent.name == _POINTS_FOLDER:
        return _only(_scans(place.parents[2]), place.name.removesuffix(_SUFFIX))
    if is_folder(place / _POINTS_FOLDER) or is_folder(place / _FRAMES_FOLDER):
        return _scans(folder)
    if place.name in (_POINTS_FOLDER, _FRAMES_FOLDER):
        return _scans(place.parent)
    if place.parent.name == _POINTS_FOLDER:
        return tuple(
            scan for scan in _scans(place.parents[1]) if scan.part.split("/")[0] == place.name
        )
    if place.parent.name == _FRAMES_FOLDER:
        root = place.parents[1]  # without points, opening the scan says so
        return _only(_scans(root), place.name) or (Scan(place.name, root, place.name),)
    return ()


def open_scannet_extracted(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one scan; images stay on disk until they are asked for.

    Frames whose pose is not finite (lost tracking) are left out, counted in the scene's provenance
    and logged.

    Raises:
        ConfigError: `image_size` is not that of the extracted frames.
        SceneError: a file is missing, damaged, or does not fit the others.
    """
    split, _, name = scan.part.rpartition("/")
    name = name or scan.name
    file = _points_file(scan.folder, split, name)
    points, colors, labels = _read_points(file)
    frames, missing = _frames(scan.folder / _FRAMES_FOLDER, name, settings)
    if frames:
        frames = within_limit(scan.folder / _FRAMES_FOLDER / name, frames)
        check_depth_unit(
            scan.folder / _FRAMES_FOLDER / name / "depth",
            sample_depth_views(frames),
            settings.depth_scale or DEPTH_SCALE,
        )
    return Scene(
        name=scan.name,
        points=points,
        colors=colors,
        labels=labels,
        frames=tuple(frames),
        label_set=LABEL_SET,
        provenance={
            "reader": "scannet_extracted",
            "source": str(scan.folder),
            "surface": f"{_POINTS_FOLDER}/{split}/{file.name}",
            "frame_step": settings.frame_step or 1,
            "skipped_frames": len(missing),
            "frames_without_pose": missing,
            "intrinsics": settings.intrinsics,
            "depth_scale": settings.depth_scale or DEPTH_SCALE,
            "poses": settings.pose_convention,
        },
    )


def openscene_files(scan: Scan) -> tuple[Path, ...]:
    """What a scan is read from."""
    split, _, name = scan.part.rpartition("/")
    frames = scan.folder / _FRAMES_FOLDER
    return (
        scan.folder / _POINTS_FOLDER / split / f"{name}{_SUFFIX}",
        frames / name,
        frames / "intrinsics.txt",
    )


def extracted_division(scan: Scan) -> Division:
    """Scans lie in scannet_3d/train, val or test; those of the test set have no labels."""
    split = scan.part.rpartition("/")[0]
    return Division(split not in ("", "test"), split if split in ("train", "val", "test") else "")


SCANNET_EXTRACTED = Reader(
    f"{_POINTS_FOLDER}/SPLIT/SCENE{_SUFFIX} and {_FRAMES_FOLDER}/SCENE/ (ScanNet as distributed "
    "by OpenScene)",
    find_scannet_extracted,
    open_scannet_extracted,
    openscene_files,
    extracted_division,
    settings={
        "label_set": Refusal(
            "label_set is '{value}', extracted ScanNet scans are labelled with "
            f"{LABEL_SET}; name that, or give the original scans",
            allowed=(LABEL_SET,),
        ),
        "align_axes": Refusal(
            "align_axes is set, extracted ScanNet scans come without their alignment; leave the "
            "setting out, or give the original scans"
        ),
        "surface_file": Refusal(
            "surface_file is '{value}', the points of extracted ScanNet scans are those "
            f"of {_POINTS_FOLDER}/; leave the setting out, or give the original scans"
        ),
    },
)


def _scans(root: Path) -> tuple[Scan, ...]:
    """All scans below the folder with scannet_3d/ and scannet_2d/."""
    splits = entries_of(root / _POINTS_FOLDER)
    parts = {
        file.name.removesuffix(_SUFFIX): f"{split.name}/{file.name.removesuffix(_SUFFIX)}"
        for split in splits
        for file in entries_of(split)
        if file.name.endswith(_SUFFIX)
    }
    for folder in entries_of(root / _FRAMES_FOLDER):
        if is_folder(folder / "color") and not splits:
            parts.setdefault(folder.name, folder.name)
    return tuple(Scan(name, root, part) for name, part in sorted(parts.items()))


def _only(scans: Sequence[Scan], name: str) -> tuple[Scan, ...]:
    return tuple(scan for scan in scans if scan.name == name)


def _points_file(root: Path, split: str, name: str) -> Path:
    file = root / _POINTS_FOLDER / split / f"{name}{_SUFFIX}"
    if not is_existing_file(file):
        found = [place / file.name for place in entries_of(root / _POINTS_FOLDER)]
        there = next((place for place in found if is_existing_file(place)), None)
        if there is None:
            raise SceneError(
                f"{root / _POINTS_FOLDER}: has no SPLIT/{name}{_SUFFIX}, expected the points of "
                f"the scan beside the frames in {_FRAMES_FOLDER}/; download them"
            )
        return there
    return file


def _read_points(file: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3) float32 metres, colours (N, 3) uint8, labels (N,) int64."""
    content = _load(file)
    if not isinstance(content, (tuple, list)) or len(content) != 3:
        found = f"{type(content).__name__}"
        if isinstance(content, (tuple, list, dict)):
            found += f" of {len(content)}"
        raise SceneError(
            f"{file}: holds a {found}, expected the three arrays coords, colors and labels; "
            "download the file again"
        )
    coords, colors, labels = (
        _array(file, name, value)
        for name, value in zip(("coords", "colors", "labels"), content, strict=True)
    )
    count = len(coords) if coords.ndim == 2 else 0
    for name, array, shape in (
        ("coords", coords, (count, 3)),
        ("colors", colors, (count, 3)),
        ("labels", labels, (count,)),
    ):
        if array.shape != shape:
            raise SceneError(
                f"{file}: its {name} have the shape {array.shape}, expected {shape}; "
                "download the file again"
            )
    if not (np.abs(colors) <= 1 + _COLOR_SLACK).all():
        raise SceneError(
            f"{file}: its colours are not between -1 and 1, expected red green blue / 127.5 - 1; "
            "write them so"
        )
    label_set = load_label_set(LABEL_SET)
    none = (labels == label_set.ignore_label) | (labels == _UNLABELLED)
    known = none | ((labels >= 0) & (labels < len(label_set.names)))
    if not known.all() or not (labels == np.floor(labels)).all():
        raise SceneError(
            f"{file}: has the label {labels[~known][:1].tolist()}, expected categories of "
            f"{LABEL_SET} from 0 or {label_set.ignore_label} for none; it is damaged or of another "
            "label set"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # such positions are refused by the scene
        points = coords.astype(np.float32)
    bytes_ = np.clip(np.rint((colors.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
    return (
        torch.from_numpy(points),
        torch.from_numpy(bytes_),
        torch.from_numpy(np.where(none, IGNORE_LABEL, labels).astype(np.int64)),
    )


def _load(file: Path) -> Any:
    """What `torch.save` stored, with nothing in it but containers and arrays of numbers."""
    require_readable(file)
    _require_no_bomb(file)
    rebuild: Any = np.zeros(0).__reduce__()[0]
    kinds = "?bhilqBHILQefd"
    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (rebuild, "numpy.core.multiarray._reconstruct"),  # NumPy before 2
        (rebuild, "numpy._core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in kinds},
    ]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before the file is refused
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as refused:
        found = re.search(r"GLOBAL ([\w.]+)", str(refused))
        reason = f"it holds a {found[1]}" if found else "it is damaged or no such file"
        raise SceneError(
            f"{file}: cannot be read as arrays of numbers ({reason}), expected coords, colors and "
            "labels as NumPy arrays or tensors; write or download it again"
        ) from refused
    except Exception as damage:  # damaged archives raise a dozen unrelated types
        reason = str(damage).split("\n")[0][:120] or type(damage).__name__
        raise SceneError(
            f"{file}: cannot be read ({reason}), expected coords, colors and labels stored by "
            "torch.save; the file is damaged, download it again"
        ) from damage


def _require_no_bomb(file: Path) -> None:
    try:
        size = unpacked_bytes(file)
    except OSError as error:
        raise SceneError(f"{file}: cannot be read ({error.strerror or error})") from error
    except Exception as damage:  # a damaged directory raises a dozen unrelated types
        raise SceneError(
            f"{file}: is a damaged archive ({str(damage)[:80]}); download it again"
        ) from damage
    if size > raised(_MAX_UNPACKED):
        raise SceneError(
            f"{file}: unpacks to {size} bytes, expected the points of one scan, at most "
            f"{raised(_MAX_UNPACKED)}; download it again, or, {HOW_TO_RAISE}"
        )


def _array(file: Path, name: str, value: Any) -> np.ndarray[Any, Any]:
    array = value.numpy(force=True) if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = f"{array.dtype} array" if isinstance(array, np.ndarray) else type(value).__name__
        raise SceneError(
            f"{file}: its {name} are a {found}, expected an array of numbers; "
            "download the file again"
        )
    return array


def _frames(
    place: Path, name: str, settings: ReaderSettings
) -> tuple[list[StoredFrame], list[str]]:
    """Frames with a pose, and the names of those without; no frames without scannet_2d/."""
    if not is_folder(place):
        _LOG.warning("%s: is missing, scan %s has no frames", place, name)
        return [], []
    folder = place / name
    names = _frame_names(folder)[:: settings.frame_step or 1]
    color, depth_camera = _cameras(place, folder, settings)
    frames, missing = [], []
    for frame in names:
        pose = _matrix(folder / "pose" / f"{frame}.txt", 4)
        if not torch.isfinite(pose).all():
            missing.append(frame)
            continue
        frames.append(_frame(folder, frame, pose, color, depth_camera, settings))
    if not frames:
        raise SceneError(
            f"{folder / 'pose'}: none of the {len(names)} poses is finite, expected at least one "
            "rigid camera-to-world matrix; leave the scan out"
        )
    if missing:
        _LOG.warning(
            "%s: %d of %d frames left out, their pose is not finite",
            folder,
            len(missing),
            len(names),
        )
    return frames, missing


def _frame(
    folder: Path,
    name: str,
    pose: Tensor,
    camera: Tensor | None,
    depth_camera: Tensor | None,
    settings: ReaderSettings,
) -> StoredFrame:
    image = next(
        file
        for suffix in COLOR_SUFFIXES
        if is_existing_file(file := folder / "color" / f"{name}{suffix}")
    )
    depth = folder / "depth" / f"{name}.png"
    size, depth_size = read_image_size(image), read_image_size(depth)
    if settings.image_size not in (None, size):
        raise ConfigError(
            f"image_size is {settings.image_size}, the extracted frames are {size}; leave the "
            "setting out, or give the original scans"
        )
    if depth_camera is None and size != depth_size:
        raise SceneError(
            f"{depth}: is {depth_size[1]} x {depth_size[0]} pixels but its image {size[1]} x "
            f"{size[0]}, expected one size or a camera of its own for depth; extract both at one "
            "size"
        )
    intrinsics = openscene_intrinsics(size) if camera is None else camera
    if not is_centered(intrinsics, size, MIDDLE):
        raise SceneError(
            f"{image}: is {size[1]} x {size[0]} pixels, its camera is for images of about "
            f"{2 * float(intrinsics[0, 2]):.0f} x {2 * float(intrinsics[1, 2]):.0f}, expected a "
            "camera of these images; scale the camera file or extract the images again"
        )
    require_upright(image, intrinsics, size, image)
    if depth_camera is not None:
        check_principal_point(folder / "intrinsic" / "intrinsic_depth.txt", depth_camera, depth)
    check_camera(str(folder / "pose" / f"{name}.txt"), intrinsics, pose)
    return StoredFrame(
        name=name,
        image_size=size,
        intrinsics=intrinsics,
        camera_to_world=POSE_CONVENTIONS[settings.pose_convention].read(pose),
        image_path=image,
        depth_path=depth,
        depth_scale=settings.depth_scale or DEPTH_SCALE,
        depth_intrinsics=depth_camera,
    )


def _frame_names(folder: Path) -> list[str]:
    """Names of the frames by their number; each has colour, depth and pose."""
    found = {
        kind: {file.stem for file in entries_of(folder / kind) if file.suffix.lower() in suffixes}
        for kind, suffixes in (("color", COLOR_SUFFIXES), ("depth", (".png",)), ("pose", (".txt",)))
    }
    for kind, names in found.items():
        if not names:
            raise SceneError(
                f"{folder / kind}: has no frames, expected one file per frame in each of color/, "
                "depth/ and pose/; download or extract them again"
            )
    complete = found["color"] & found["depth"] & found["pose"]
    incomplete = sorted((found["color"] | found["depth"] | found["pose"]) - complete)
    if incomplete:
        lacking = [kind for kind, names in found.items() if incomplete[0] not in names]
        raise SceneError(
            f"{folder}: frame {incomplete[0]} has no file in {' and '.join(lacking)}/ "
            f"({len(incomplete)} frames lack one), expected each frame in color/, depth/ and "
            "pose/; download or extract them again"
        )
    return sorted(found["color"], key=lambda name: (int(name) if name.isdecimal() else -1, name))


def _cameras(
    place: Path, folder: Path, settings: ReaderSettings
) -> tuple[Tensor | None, Tensor | None]:
    """Camera of colour, None for the one OpenScene takes; and of depth where it has its own."""
    if settings.intrinsics == "openscene":
        return None, None
    own = folder / "intrinsic"
    if is_existing_file(own / "intrinsic_color.txt") and is_existing_file(
        own / "intrinsic_depth.txt"
    ):
        return _camera(own / "intrinsic_color.txt"), _camera(own / "intrinsic_depth.txt")
    for file in (folder / "intrinsics.txt", place / "intrinsics.txt"):
        if is_existing_file(file):
            return _camera(file), None
    raise SceneError(
        f"{place / 'intrinsics.txt'}: is missing, expected the camera matrix of the extracted "
        "frames; download it, or set `intrinsics: openscene` for the one OpenScene takes"
    )


def _camera(file: Path) -> Tensor:
    matrix = _matrix(file, 4, 3)[:3, :3].clone()
    check_camera(str(file), matrix, torch.eye(4, dtype=torch.float64))
    bottom = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if abs(float(matrix[1, 0])) > 1e-6 or not torch.equal(matrix[2], bottom):
        raise SceneError(
            f"{file}: is no camera matrix, expected fx 0 cx / 0 fy cy / 0 0 1 in pixels; "
            "write it row by row"
        )
    return matrix


def _matrix(file: Path, *sides: int) -> Tensor:
    """A square matrix of numbers, float64; they may be infinite."""
    rows = read_rows(file, "a matrix of numbers", largest=_MAX_MATRIX)
    words = [word for _, row in rows for word in row]
    side = math.isqrt(len(words))
    if side not in sides:
        side = sides[0]
    numbers = parse_numbers(str(file), words, side * side)
    return torch.tensor(numbers, dtype=torch.float64).view(side, side)
