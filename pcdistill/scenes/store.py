"""Scenes stored on disk: one folder each, written whole and read lazily.

scene.json           name, label set, provenance, cameras; checksums of everything, itself too
points.safetensors   points f32, colors u8, normals f32, labels i32, instances i32, faces i32
frames/NAME.jpg      colour
frames/NAME.png      depth, 16 bits, with its own counts per metre (1000 unless depth is large)
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pcdistill.atomic_io import atomic_folder
from pcdistill.errors import SceneError
from pcdistill.scenes.formats.images import encode_color, encode_depth
from pcdistill.scenes.formats.text import MAX_TEXT_BYTES
from pcdistill.scenes.frames import Frame, StoredFrame
from pcdistill.scenes.paths import is_existing_file, unreadable
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.units import DEPTH_SCALE
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded
from pcdistill.tensor_files import save_tensors

FORMAT = "pcdistill scene"
VERSION = 2
SCENE_FILE = "scene.json"
POINTS_FILE = "points.safetensors"
FRAMES_FOLDER = "frames"

_ON_DISK = {
    "points": torch.float32,
    "colors": torch.uint8,
    "normals": torch.float32,
    "labels": torch.int32,
    "instances": torch.int32,
    "faces": torch.int32,
}
_IN_MEMORY = {"labels": torch.int64, "faces": torch.int64}

_CHUNK = 1 << 20
_MAX_COUNT = 65535


def write_scene(scene: Scene, folder: str | Path) -> None:
    """Store a scene, whole or not at all; an older one of that name is replaced.

    Colour is stored as JPEG (files that are JPEG already are copied), depth as 16-bit PNG: both are
    decoded on the way, so that a stored scene has no damaged image.

    Args:
        scene: any scene.
        folder: where; folders above are made.

    Raises:
        SceneError: an image cannot be read, or a label does not fit 32 bits.
        ValueError: a frame's name cannot be a file name.
    """
    folder = Path(folder)
    with atomic_folder(folder) as temporary:
        _write_points(scene, temporary / POINTS_FILE)
        (temporary / FRAMES_FOLDER).mkdir()
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "name": scene.name,
            "label_set": scene.label_set,
            "provenance": scene.provenance,
            "points": {
                "count": scene.points.shape[0],
                "checksum": _checksum_of(temporary / POINTS_FILE),
            },
            "frames": [_write_frame(frame, temporary / FRAMES_FOLDER) for frame in scene.frames],
        }
        # read back: what JSON turns into something else (tuples) is summed as it will be found
        content = json.loads(json.dumps(content))
        content["checksum"] = _checksum(content)
        (temporary / SCENE_FILE).write_text(json.dumps(content, indent=1) + "\n")


def is_stored_scene(folder: Path) -> bool:
    """Whether `folder` has what `write_scene` writes."""
    return is_existing_file(folder / SCENE_FILE)


def has_labels(folder: Path) -> bool:
    """Whether a stored scene has labels, as the head of its file says; not where it is damaged."""
    try:
        with safe_open(folder / POINTS_FILE, "pt") as stored:
            return "labels" in stored.keys()  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError):
        return False


def open_stored_scene(folder: Path) -> Scene:
    """Open a scene that `write_scene` stored; points are mapped, images read when asked for.

    Raises:
        SceneError: a file is missing, damaged, changed, or of another version.
    """
    file = folder / SCENE_FILE
    content = _read_json(file)
    try:
        tensors = _read_points(folder / POINTS_FILE, content["points"])
        return Scene(
            name=content["name"],
            **tensors,
            frames=tuple(_read_frame(folder, entry) for entry in content["frames"]),
            label_set=content["label_set"],
            provenance=content["provenance"],
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        AttributeError,
        SafetensorError,
    ) as error:
        raise SceneError(
            f"{file}: does not describe a scene ({type(error).__name__}: {error}); "
            "write the scene again"
        ) from error


def load_stored_points(folder: Path, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Map some tensors of a scene that `write_scene` stored, those of them that it has.

    Args:
        folder: of the scene.
        names: of the tensors, such as points, colors, normals.

    Raises:
        SceneError: a file is missing, damaged, changed, or of another version.
    """
    return _read_points(folder / POINTS_FILE, _read_json(folder / SCENE_FILE)["points"], names)


def _write_points(scene: Scene, path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for name, dtype in _ON_DISK.items():
        values: Tensor | None = getattr(scene, name)
        if values is None:
            continue
        if values.numel() and not dtype.is_floating_point:
            limits = torch.iinfo(dtype)
            if int(values.max()) > limits.max or int(values.min()) < limits.min:
                raise SceneError(
                    f"scene {scene.name}: {name} go up to {int(values.max())}, expected at most "
                    f"{limits.max}; number them from 0"
                )
        tensors[name] = values.detach().to(device="cpu", dtype=dtype).contiguous()
    save_tensors(tensors, path)


def _write_frame(frame: Frame, folder: Path) -> dict[str, Any]:
    if not _is_file_name(frame.name):
        raise ValueError(f"frame '{frame.name}' cannot name a file; leave out slashes")
    color = folder / f"{frame.name}.jpg"
    color.write_bytes(_color_bytes(frame))
    entry: dict[str, Any] = {
        "name": frame.name,
        "image_size": list(frame.image_size),
        "intrinsics": frame.intrinsics.tolist(),
        "camera_to_world": frame.camera_to_world.tolist(),
        "image_checksum": _checksum_of(color),
    }
    depth = frame.depth()
    if depth is not None:
        scale = _depth_scale(frame, depth)
        counts = folder / f"{frame.name}.png"
        counts.write_bytes(encode_depth(depth, scale))
        entry |= {"depth_scale": scale, "depth_checksum": _checksum_of(counts)}
    return entry


def _color_bytes(frame: Frame) -> bytes:
    image = frame.image()
    if isinstance(frame, StoredFrame) and frame.image_path.suffix.lower() in (".jpg", ".jpeg"):
        content = frame.image_path.read_bytes()
        if content.startswith(b"\xff\xd8"):  # a second compression would only lose detail
            return content
    return encode_color(image)


def _depth_scale(frame: Frame, depth: Tensor) -> float:
    """Counts per metre that hold the frame's depth: its own, millimetres, or coarser ones."""
    own = DEPTH_SCALE
    if isinstance(frame, StoredFrame) and frame.depth_path is not None:
        own = frame.depth_scale if frame.depth_path.suffix.lower() == ".png" else DEPTH_SCALE
    known = depth[torch.isfinite(depth)]
    largest = float(known.max()) if known.numel() else 0.0
    if largest * own <= _MAX_COUNT:
        return own
    return float(max(math.floor(_MAX_COUNT / largest), 1))


def _read_json(file: Path) -> dict[str, Any]:
    try:
        text = read_bounded(file, MAX_TEXT_BYTES)
        if text is None:
            raise SceneError(
                f"{file}: has more than {raised(MAX_TEXT_BYTES)} bytes, expected the description "
                f"of a scene; it is damaged, write the scene again, or, {HOW_TO_RAISE}"
            )
        content = json.loads(text.decode("utf-8"))
    except FileNotFoundError as missing:
        raise SceneError(f"{file}: is missing; write the scene again") from missing
    except OSError as error:
        raise SceneError(
            f"{file}: cannot be read ({error.strerror or error}), expected the description of a "
            "scene; give yourself the right to read it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SceneError(
            f"{file}: is not readable JSON ({error}); it is damaged, write the scene again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SceneError(f"{file}: is not a '{FORMAT}' file; give the folder of a scene")
    if content.get("version") != VERSION:
        raise SceneError(
            f"{file}: has version {content.get('version')!r}, this release reads {VERSION}; "
            "write the scene again"
        )
    if content.pop("checksum", None) != _checksum(content):
        raise SceneError(
            f"{file}: does not match its checksum, it is damaged or was edited; "
            "write the scene again"
        )
    return content


def _read_points(
    path: Path, expected: dict[str, Any], names: tuple[str, ...] = tuple(_ON_DISK)
) -> dict[str, Tensor]:
    if not is_existing_file(path):
        raise SceneError(f"{path}: is missing; write the scene again")
    if _checksum_of(path) != expected["checksum"]:
        raise SceneError(
            f"{path}: is not the file its {SCENE_FILE} describes, it is damaged or truncated; "
            "write the scene again"
        )
    with safe_open(path, framework="pt") as archive:
        there = set(archive.keys())
        stored = {name: archive.get_tensor(name) for name in names if name in there}
    return {name: values.to(_IN_MEMORY.get(name, values.dtype)) for name, values in stored.items()}


def _read_frame(folder: Path, entry: dict[str, Any]) -> StoredFrame:
    name = entry["name"]
    if not _is_file_name(name):
        raise ValueError(f"frame name {name!r}")
    has_depth = "depth_checksum" in entry
    image_path = folder / FRAMES_FOLDER / f"{name}.jpg"
    depth_path = folder / FRAMES_FOLDER / f"{name}.png" if has_depth else None
    for path in (image_path, depth_path):
        if path is not None and not is_existing_file(path):
            raise SceneError(f"{path}: is missing; write the scene again")
    height, width = entry["image_size"]
    return StoredFrame(
        name=name,
        image_size=(height, width),
        intrinsics=torch.tensor(entry["intrinsics"], dtype=torch.float64),
        camera_to_world=torch.tensor(entry["camera_to_world"], dtype=torch.float64),
        image_path=image_path,
        depth_path=depth_path,
        depth_scale=entry.get("depth_scale", DEPTH_SCALE),
        image_checksum=entry["image_checksum"],
        depth_checksum=entry.get("depth_checksum"),
    )


def _is_file_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= 200
        and not name.startswith(".")
        and not any(character in "/\\" or ord(character) < 32 for character in name)
    )


def _checksum(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _checksum_of(path: Path) -> int:
    checksum = 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                checksum = zlib.crc32(chunk, checksum)
    except OSError as error:
        raise unreadable(path, error) from error
    return checksum
