"""Reader of ScanNet v2 scans as they are downloaded.

    scans/SCENE/SCENE.sens                              frames (see `sens.py`)
    scans/SCENE/SCENE_vh_clean_2.ply                    the mesh whose vertices are labelled
    scans/SCENE/SCENE_vh_clean_2.labels.ply             NYU's category number of each vertex
    scans/SCENE/SCENE_vh_clean_2.0.010000.segs.json     segment of each vertex
    scans/SCENE/SCENE.aggregation.json                  objects: raw category and segments
    scans/SCENE/SCENE.txt                               axisAlignment, only used for `align_axes`
    scannetv2-labels.combined.tsv                       beside scans/, only for label set scannet200

Scans of the test split have neither labels nor objects. Poses are the depth camera's; a frame is
the colour camera, resized, with depth registered to it. `intrinsics: openscene` gives what
OpenScene's preprocessing writes instead: one camera for all scans, depth stretched over colour
whatever their cameras, and poses rounded to six decimals.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import is_rigid
from pcdistill.scenes.checks.camera_checks import MIDDLE, is_centered
from pcdistill.scenes.checks.depth_checks import check_depth_unit
from pcdistill.scenes.checks.mesh_checks import check_mesh_extent
from pcdistill.scenes.checks.pose_conventions import POSE_CONVENTIONS
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.formats.sens import SensFile, SensRecord, open_sens
from pcdistill.scenes.formats.text import number_of, read_text, split_fields
from pcdistill.scenes.label_sets import LabelSet, load_label_set
from pcdistill.scenes.origin import no_offset
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Division, Reader, Scan
from pcdistill.scenes.readers.capture.frame_checks import sample_depth_views
from pcdistill.scenes.readers.scannet.annotations import (
    object_instances,
    object_labels,
    read_nyu_labels,
    read_objects,
)
from pcdistill.scenes.readers.scannet.frames import (
    SensFrame,
    openscene_intrinsics,
    subsampled_intrinsics,
)
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

FRAME_STEP = 20
"""Every n-th frame is used where nothing else is set, as in the paper."""
IMAGE_SIZE = (240, 320)
"""(H, W) pixels frames are resized to where nothing else is set, as in the paper's code."""
LABEL_SETS = ("scannet20", "scannet200")
"""What the labels can be given in; the first where nothing is set."""
TABLE = "scannetv2-labels.combined.tsv"

_SENS = ".sens"
_MESH = "_vh_clean_2.ply"
_LABELS = "_vh_clean_2.labels.ply"
_SEGMENTS = "_vh_clean_2.0.010000.segs.json"
_OBJECTS = ".aggregation.json"
_TEXT = ".txt"
_SPLITS = ("scans", "scans_test")
_SCENE_NAME = re.compile(r"scene\d{4}_\d{2}")
_MAX_IMAGE_SIDE = 1 << 13
_ALIGNMENT_TOLERANCE = 1e-3


def find_scannet(folder: Path) -> tuple[Scan, ...]:
    """Scans below a folder: itself, those in its scans/ and scans_test/, or its subfolders."""
    if _is_scan(folder) or (_has_scan_name(folder) and folder.parent.name in _SPLITS):
        return (Scan(folder.resolve().name, folder),)
    splits = [place for split in _SPLITS if is_folder(place := folder / split)]
    found = [child for place in splits or [folder] for child in _subfolders(place)]
    whole = [_is_scan(child) for child in found]
    if not any(whole):
        return ()
    return tuple(
        Scan(child.name, child)
        for child, is_whole in zip(found, whole, strict=True)
        if is_whole or _has_scan_name(child)
    )


def open_scannet(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one scan of ScanNet v2; images stay in the `.sens` file until they are asked for.

    Frames whose pose is not finite (lost tracking) are left out, counted in the scene's provenance
    and logged.

    Raises:
        ConfigError: the label set is none that ScanNet's labels can be given in.
        SceneError: a file is missing, damaged, or does not fit the others.
    """
    folder = scan.folder
    label_set = _label_set(settings)
    step = settings.frame_step or FRAME_STEP
    sens = open_sens(_required(folder, _SENS), step)
    mesh_file = _mesh_file(folder, settings)
    mesh = read_ply(mesh_file, offset=no_offset())
    check_mesh_extent(mesh_file, mesh.points)
    frames, missing = _frames(sens, settings)
    labels, instances, notes = None, None, dict[str, Any]()
    if settings.surface_file is None:
        labels, instances, notes = _annotation(folder, mesh.points, label_set)
    check_depth_unit(sens.path, sample_depth_views(frames), frames[0].depth_scale)
    alignment = _alignment(folder) if settings.align_axes else None
    provenance: dict[str, Any] = {
        "reader": "scannet",
        "source": str(folder),
        "surface": mesh_file.name,
        "frames": sens.frame_count,
        "frame_step": step,
        "skipped_frames": len(missing),
        "frames_without_pose": missing,
        "intrinsics": settings.intrinsics,
        "depth_scale": frames[0].depth_scale,
        "poses": settings.pose_convention,
        "axes_aligned": alignment is not None,
        **({} if alignment is None else {"scene_to_source": alignment.inverse().tolist()}),
        **notes,
    }
    return Scene(
        name=scan.name,
        points=mesh.points if alignment is None else _moved(mesh.points, alignment),
        colors=mesh.colors,
        labels=labels,
        instances=instances,
        faces=mesh.faces if mesh.faces is not None and len(mesh.faces) else None,
        frames=tuple(frames if alignment is None else _aligned(frames, alignment)),
        label_set=None if labels is None else label_set.name,
        provenance=provenance,
    )


def scannet_files(scan: Scan) -> tuple[Path, ...]:
    """What a scan is read from: its folder, and the table of raw categories where there is one."""
    table = _table(scan.folder)
    return (scan.folder,) if table is None else (scan.folder, table)


def scannet_division(scan: Scan) -> Division:
    """Labels need the mesh, and a scan its frames; `scans_test/` is the test set."""
    folder = scan.folder
    own = [
        is_existing_file(folder / f"{folder.resolve().name}{s}") for s in (_SENS, _MESH, _LABELS)
    ]
    return Division(all(own), "test" if folder.resolve().parent.name == _SPLITS[1] else "")


SCANNET = Reader(
    "SCENE/SCENE.sens and SCENE/SCENE_vh_clean_2.ply (scans of ScanNet v2)",
    find_scannet,
    open_scannet,
    scannet_files,
    scannet_division,
    {side: f"scannetv2_{side}.txt" for side in ("train", "val", "test")},
)


def _table(folder: Path) -> Path | None:
    """The table of raw categories in the folder of a scan or in one of the three above it."""
    place = folder.resolve()
    return next(
        (above / TABLE for above in (place, *place.parents[:3]) if is_existing_file(above / TABLE)),
        None,
    )


def _required_table(folder: Path) -> Path:
    table = _table(folder)
    if table is None:
        raise SceneError(
            f"{folder}: has no {TABLE} in the folders above it, expected the table that numbers "
            "raw categories for label set scannet200; put it beside scans/"
        )
    return table


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in entries_of(folder) if is_folder(entry)]


def _is_scan(folder: Path) -> bool:
    names = [entry.name for entry in entries_of(folder)]
    return any(name.endswith((_SENS, _MESH, _LABELS, _SEGMENTS, _OBJECTS)) for name in names)


def _has_scan_name(folder: Path) -> bool:
    """Whether the folder is named like a scan, and is not one of extracted frames."""
    return bool(_SCENE_NAME.fullmatch(folder.name)) and not is_folder(folder / "color")


def _file(folder: Path, suffix: str) -> Path | None:
    """The scan's own file of a kind, by the folder's name or, if it was renamed, the only one."""
    own = folder / f"{folder.resolve().name}{suffix}"
    if is_existing_file(own):
        return own
    found = [
        file
        for file in entries_of(folder)
        if file.name.endswith(suffix) and "_vh_clean" not in file.name[: -len(suffix)]
    ]
    if len(found) > 1:
        raise SceneError(
            f"{folder}: has {len(found)} files *{suffix} ({found[0].name}, {found[1].name}), "
            f"expected one, {own.name}; keep one scan in a folder"
        )
    return found[0] if found else None


def _required(folder: Path, suffix: str) -> Path:
    file = _file(folder, suffix)
    if file is None:
        raise SceneError(
            f"{folder}: has no {folder.resolve().name}{suffix}, expected the frames (.sens) and "
            f"the mesh ({_MESH}) of a ScanNet scan; download the file"
        )
    return file


def _mesh_file(folder: Path, settings: ReaderSettings) -> Path:
    if settings.surface_file is None:
        return _required(folder, _MESH)
    file = folder / settings.surface_file
    if not is_existing_file(file):
        raise SceneError(f"{file}: no such file; correct or remove the setting `surface_file`")
    return file


def _label_set(settings: ReaderSettings) -> LabelSet:
    name = settings.label_set or LABEL_SETS[0]
    if name not in LABEL_SETS:
        raise ConfigError(
            f"label_set is '{name}', ScanNet's labels can be given in {' or '.join(LABEL_SETS)}; "
            "name one of these"
        )
    return load_label_set(name)


def _frames(sens: SensFile, settings: ReaderSettings) -> tuple[list[SensFrame], list[str]]:
    """Frames with a pose, and the names of those without."""
    image_size = settings.image_size or IMAGE_SIZE
    if max(image_size) > _MAX_IMAGE_SIDE:
        raise ConfigError(
            f"image_size is {image_size}, expected (H, W) up to {_MAX_IMAGE_SIDE} pixels; "
            f"colour has {sens.header.color_size}"
        )
    header = sens.header
    own = settings.intrinsics == "own"
    depth_to_color = torch.linalg.inv(header.color_to_rig) @ header.depth_to_rig
    camera = (
        subsampled_intrinsics(header.color_intrinsics, header.color_size, image_size)
        if own
        else openscene_intrinsics(image_size)
    )
    if own:
        _require_center(sens.path, "colour", header.color_intrinsics, header.color_size)
        _require_center(sens.path, "depth", header.depth_intrinsics, header.depth_size)
    frames, missing = [], []
    for record in sens.records:
        name = str(record.number)
        if not _is_tracked(record):
            missing.append(name)
            continue
        pose = record.camera_to_world if own else _six_decimals(record.camera_to_world)
        pose = POSE_CONVENTIONS[settings.pose_convention].read(pose)
        frames.append(
            SensFrame(
                name=name,
                image_size=image_size,
                intrinsics=camera,
                camera_to_world=pose @ torch.linalg.inv(depth_to_color) if own else pose,
                file=sens,
                record=record,
                depth_scale=settings.depth_scale or header.depth_scale,
                depth_to_image=depth_to_color if own else None,
            )
        )
    if not frames:
        raise SceneError(
            f"{sens.path}: none of the {len(sens.records)} frames taken of {sens.frame_count} has "
            "a pose, expected at least one that was tracked; take more of them (`frame_step`) or "
            "leave the scan out"
        )
    if missing:
        _LOG.warning(
            "%s: %d of %d frames left out, their pose is not finite",
            sens.path,
            len(missing),
            len(sens.records),
        )
    return frames, missing


def _is_tracked(record: SensRecord) -> bool:
    pose = record.camera_to_world
    return bool(torch.isfinite(pose).all()) and bool((pose != 0).any())


def _six_decimals(pose: Tensor) -> Tensor:
    return torch.round(pose, decimals=6)


def _require_center(path: Path, which: str, intrinsics: Tensor, size: tuple[int, int]) -> None:
    height, width = size
    if not is_centered(intrinsics, size, MIDDLE):
        raise SceneError(
            f"{path}: the {which} camera's principal point is ({intrinsics[0, 2]:.1f}, "
            f"{intrinsics[1, 2]:.1f}), its images are {width} x {height}, expected it near their "
            "centre; download the file again"
        )


def _annotation(
    folder: Path, points: Tensor, label_set: LabelSet
) -> tuple[Tensor | None, Tensor | None, dict[str, Any]]:
    """Labels, instances and notes for the provenance; nothing of a scan without annotation."""
    found = {suffix: _file(folder, suffix) for suffix in (_LABELS, _SEGMENTS, _OBJECTS)}
    segments, aggregation = found[_SEGMENTS], found[_OBJECTS]
    missing = [suffix for suffix, file in found.items() if file is None]
    if len(missing) == len(found):
        _LOG.info("%s: has no labels", folder)
        return None, None, {}
    wanted = [_LABELS] if label_set.name == "scannet20" else [_SEGMENTS, _OBJECTS]
    if aggregation is not None:
        wanted.append(_SEGMENTS)
    for suffix in wanted:
        if suffix in missing:
            there = next(file.name for file in found.values() if file is not None)
            raise SceneError(
                f"{folder}: has {there} but no {folder.resolve().name}{suffix}, expected both for "
                f"labels of {label_set.name}; download the file"
            )
    objects = None
    if segments is not None and aggregation is not None:
        objects = read_objects(aggregation, segments, len(points))
    notes: dict[str, Any] = {}
    labels = None
    if label_set.name == "scannet20" and (file := found[_LABELS]) is not None:
        labels, outside = read_nyu_labels(file, points, label_set)
        notes = {"labels_from": file.name, "labels_outside_of_nyu40": outside}
    elif objects is not None and aggregation is not None:
        labels, unknown = object_labels(objects, _required_table(folder), label_set)
        notes = {"labels_from": aggregation.name, "raw_categories_without_number": unknown}
    if objects is None:
        return labels, None, notes
    notes |= {"objects": len(objects.ids), "absent_segments": objects.absent_segments}
    return labels, object_instances(objects), notes


def _alignment(folder: Path) -> Tensor | None:
    """The (4, 4) float64 transform that turns walls along the axes; None where there is none."""
    file = _file(folder, _TEXT)
    if file is None:
        raise SceneError(
            f"{folder}: has no {folder.resolve().name}{_TEXT}, expected its axisAlignment for "
            "`align_axes`; download the file or leave the setting out"
        )
    lines = [
        line.partition("=")[2]
        for line in read_text(file, "the data of a ScanNet scan").splitlines()
        if line.partition("=")[0].strip() == "axisAlignment"
    ]
    if not lines:
        _LOG.warning("%s: has no axisAlignment, the scan stays as it is", file)
        return None
    try:
        numbers = [number_of(word) for word in split_fields(lines)[-1]]
    except ValueError:
        numbers = []
    if len(numbers) == 16 and all(map(math.isfinite, numbers)):
        matrix = torch.tensor(numbers, dtype=torch.float64).view(4, 4)
        if is_rigid(matrix, _ALIGNMENT_TOLERANCE) and matrix[3].tolist() == [0, 0, 0, 1]:
            return matrix
    raise SceneError(
        f"{file}: axisAlignment is '{lines[-1].strip()[:60]}', expected the 16 numbers of a rigid "
        "4 x 4 transform; download the file again or leave `align_axes` out"
    )


def _moved(points: Tensor, transform: Tensor) -> Tensor:
    return (points.double() @ transform[:3, :3].T + transform[:3, 3]).float()


def _aligned(frames: Sequence[SensFrame], alignment: Tensor) -> list[SensFrame]:
    return [replace(f, camera_to_world=alignment @ f.camera_to_world) for f in frames]
