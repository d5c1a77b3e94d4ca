"""The regions of Matterport3D houses as scenes.

    <root>/category_mapping.tsv                                      also metadata/, or the parent's
    <root>/scans/<house>/region_segmentations/region<N>.ply          category_id per face
                                              region<N>.fsegs.json   segment of each face
                                              region<N>.semseg.json  objects: sets of segments
    <root>/scans/<house>/undistorted_camera_parameters/<house>.conf
    <root>/scans/<house>/undistorted_color_images/<panorama>_i<camera>_<yaw>.jpg
    <root>/scans/<house>/undistorted_depth_images/<panorama>_d<camera>_<yaw>.png   uint16, 1/4000 m

A house is scanned from panoramas of 18 images; each region of it, mostly a room, is one scene named
`<house>_region<N>`. Its frames are the images whose camera centre lies inside the box of its
points, as in OpenScene. A region without such an image gets the (at most 100) nearest images of the
house that have points of it in their field of view, and says so in its provenance.

Images and depth are reduced to 640 x 512 by taking every other pixel, as OpenScene does; the camera
matrix is scaled about the image's border (`intrinsics: openscene` gives that of its files, 0.0002
pixels away). Camera axes are converted in `matterport_camera`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.errors import ConfigError, SceneError
from pcdistill.geometry import invert_pose, project_to_pixels
from pcdistill.scenes.matterport_camera import HouseCamera, read_conf
from pcdistill.scenes.matterport_labels import (
    MATTERPORT_LABEL_SETS,
    label_points,
    read_category_labels,
    require_label_set,
    vote_of_faces,
)
from pcdistill.scenes.mesh_fit import require_mesh_fit, unit_normals
from pcdistill.scenes.ply import read_ply
from pcdistill.scenes.ply_tables import Lists, read_tables
from pcdistill.scenes.reading import Reader, ReadSettings, Scan
from pcdistill.scenes.resized_frames import ResizedFrame, common_file_size, resize_camera
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.text_files import read_json

_LOG = logging.getLogger(__name__)

IMAGE_SIZE = (512, 640)
"""(H, W) pixels of frames unless set, as in OpenScene."""
DEPTH_SCALE = 4000.0
"""Counts per metre of depth images."""

_REGIONS = "region_segmentations"
_CAMERAS = "undistorted_camera_parameters"
_COLOR, _DEPTH = "undistorted_color_images", "undistorted_depth_images"
_TABLE = "category_mapping.tsv"

_MOST_OUTSIDE_FRAMES = 100
_LEAST_IN_VIEW = 0.01  # of a region's points
_COUNTED_POINTS = 2000
_LARGEST_OBJECT = 2**31 - 1
_NOT_APPLICABLE = ("up", "poses", "geometry", "fuse_voxel_size", "align_axes", "sweeps")


class _Faces(NamedTuple):
    """What a region's mesh says of its faces."""

    triangles: Tensor
    """(T, 3) int64."""
    of_triangle: Tensor
    """(T,) int64, the face that each triangle is cut from."""
    category: Tensor
    """(F,) int64, raw category, -1 or 0 = none."""
    object: Tensor | None
    """(F,) int64, its segment_id."""


def find_matterport(folder: Path) -> tuple[Scan, ...]:
    """The regions of a house, of a folder of houses, or of a data set with `scans/`.

    Args:
        folder: any folder.

    Returns:
        Scans in the order of houses and region numbers; a house without regions is one scan whose
        part is empty. Nothing where the folder is of another layout.
    """
    for houses in ([folder], _children(folder), _children(folder / "scans")):
        found = [(house.resolve().name, _inner(house)) for house in houses]
        found = [(name, house) for name, house in found if _is_house(house)]
        if found:
            return tuple(
                Scan(f"{name}_{region}" if region else name, house, region)
                for name, house in found
                for region in _regions(house) or [""]
            )
    return ()


def open_matterport(scan: Scan, settings: ReadSettings) -> Scene:
    """Read one region of a house; images stay on disk until they are asked for.

    Args:
        scan: of `find_matterport`.
        settings: `image_size` (512, 640), `depth_scale` 4000, `frame_step` 1 and `label_set`
            matterport21 unless set; what has no meaning here must stay at its default.

    Raises:
        ConfigError: a setting does not apply to Matterport3D.
        SceneError: something is missing, damaged, or does not fit together.
    """
    _refuse_settings(settings)
    label_set = settings.label_set or MATTERPORT_LABEL_SETS[0]
    require_label_set(label_set)
    house = scan.folder
    mesh = _mesh(scan)
    table = find_table(house)
    category_labels = read_category_labels(table, label_set)
    surface = read_ply(mesh)
    if surface.faces is None or len(surface.faces) == 0:
        raise SceneError(
            f"{mesh}: has no faces, expected a mesh with a category per face; restore it"
        )
    faces = _read_faces(mesh, surface.faces)
    labels = label_points(
        mesh,
        faces.category[faces.of_triangle],
        faces.triangles,
        len(surface.points),
        category_labels,
    )
    instances, instance_source = _instances(mesh, faces, len(surface.points))
    frames, provenance = _frames(scan, settings, surface.points)
    if provenance["frames_chosen"] == "inside":
        require_mesh_fit(
            *(house, frames, mesh, surface.points, frames[0].depth_scale),
            least_fitting=0,  # other rooms in the region's box may hide it
        )
    return Scene(
        name=scan.name,
        points=surface.points,
        colors=surface.colors,
        normals=unit_normals(surface.normals),
        labels=labels,
        instances=instances,
        faces=surface.faces,
        frames=tuple(frames),
        label_set=label_set,
        provenance={
            "reader": "matterport",
            "source": str(mesh),
            "surface": mesh.name,
            "category_table": str(table),
            "instances": instance_source,
            "up": "z",
            **provenance,
        },
    )


MATTERPORT = Reader(
    f"{_REGIONS}/ and {_CAMERAS}/ (houses of Matterport3D)", find_matterport, open_matterport
)


def find_table(house: Path) -> Path:
    """The category table beside a house: in its folder or up to three above, or their `metadata/`.

    Raises:
        SceneError: there is none.
    """
    above = [house.resolve(), *house.resolve().parents[:3]]
    for folder in above:
        for path in (folder / _TABLE, folder / "metadata" / _TABLE):
            if path.is_file():
                return path
    raise SceneError(
        f"{above[min(2, len(above) - 1)] / _TABLE}: is missing, expected the category table of "
        "Matterport3D there, in metadata/, or beside the house; copy it from the data set's "
        "repository (metadata/category_mapping.tsv)"
    )


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir())
    except OSError:
        return []


def _inner(house: Path) -> Path:
    """The house itself; its archives unpack to `<house>/<house>/` where they are not merged."""
    doubled = house / house.resolve().name
    return doubled if not _is_house(house) and _is_house(doubled) else house


def _is_house(folder: Path) -> bool:
    return (folder / _REGIONS).is_dir() or (folder / _CAMERAS).is_dir()


def _regions(house: Path) -> list[str]:
    """`region0`, `region1`, ... by number; also those of which only the JSON files are there."""
    try:
        names = {path.name.split(".")[0] for path in (house / _REGIONS).glob("region*.*")}
    except OSError:
        return []
    matches = [re.fullmatch(r"region(\d{1,9})", name) for name in names]
    return [
        f"region{m[1]}" for m in sorted((m for m in matches if m), key=lambda m: (int(m[1]), m[1]))
    ]


def _mesh(scan: Scan) -> Path:
    place = scan.folder / _REGIONS
    regions = _regions(scan.folder)
    if not regions:
        raise SceneError(
            f"{place}: has no region<N>.ply, expected the house's regions; download "
            "region_segmentations of the house"
        )
    part = regions[0] if not scan.part and len(regions) == 1 else scan.part
    if part not in regions:
        asked = f"'{part}' is none of them" if part else "none is named"
        raise SceneError(
            f"{place}: has {len(regions)} regions ({', '.join(regions[:5])}"
            f"{', ...' if len(regions) > 5 else ''}), {asked}, expected one for a scene; name it "
            "as the part"
        )
    mesh = place / f"{part}.ply"
    if not mesh.is_file():
        raise SceneError(
            f"{mesh}: is missing, only other files of the region are there, expected its mesh; "
            "download region_segmentations of the house again"
        )
    return mesh


def _refuse_settings(settings: ReadSettings) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in _NOT_APPLICABLE and value != field.default:
            raise ConfigError(
                f"`{field.name}` is {value!r}, Matterport3D says this itself; leave the setting out"
            )


def _read_faces(mesh: Path, faces: Tensor) -> _Faces:
    with mesh.open("rb") as stream:
        face = read_tables(mesh, stream)["face"]
    columns: dict[str, Tensor] = {}
    for name in ("category_id", "segment_id"):
        values = face.get(name)
        if values is None:
            continue
        if isinstance(values, Lists) or values.dtype.kind == "f":
            raise SceneError(
                f"{mesh}: '{name}' of its faces is no integer; restore the original file"
            )
        columns[name] = torch.from_numpy(values.astype(np.int64))
    if "category_id" not in columns:
        raise SceneError(
            f"{mesh}: its faces have no 'category_id', expected the meshes of {_REGIONS}; "
            "restore the original file"
        )
    corners = next(face[name] for name in ("vertex_indices", "vertex_index") if name in face)
    lengths = corners.lengths if isinstance(corners, Lists) else np.empty(0, dtype=np.int64)
    of_triangle = np.repeat(np.arange(len(lengths)), np.maximum(lengths - 2, 0))
    return _Faces(
        faces,
        torch.from_numpy(of_triangle),
        columns["category_id"],
        columns.get("segment_id"),
    )


def _instances(mesh: Path, faces: _Faces, points: int) -> tuple[Tensor | None, str]:
    """Object of each point, (N,) int32, and where that is from."""
    segments = mesh.with_name(f"{mesh.stem}.fsegs.json")
    groups = mesh.with_name(f"{mesh.stem}.semseg.json")
    if segments.is_file() and groups.is_file():
        objects = _objects_of_faces(segments, groups, len(faces.category))
        source = f"{segments.name}, {groups.name}"
    elif faces.object is not None:
        objects, source = faces.object, f"segment_id in {mesh.name}"
        _LOG.warning(
            "%s: objects are its segment_id, not both %s and %s are there",
            *(mesh, segments.name, groups.name),
        )
    else:
        _LOG.warning("%s: has no objects, %s is missing", mesh, groups.name)
        return None, "none"
    objects = torch.where((objects < 0) | (objects > _LARGEST_OBJECT), -1, objects)
    return vote_of_faces(objects[faces.of_triangle], faces.triangles, points).int(), source


def _objects_of_faces(segments: Path, groups: Path, faces: int) -> Tensor:
    """(F,) int64, -1 = none."""
    # a number of a face takes a few bytes: what is far larger is not this file
    content = read_json(segments, "the segment of each face", largest=(1 << 20) + 24 * faces)
    segment_of_face = _integers(segments, "segIndices", content.get("segIndices"))
    if len(segment_of_face) != faces:
        raise SceneError(
            f"{segments}: has segments of {len(segment_of_face)} faces, the mesh has {faces}; "
            "the files are of different releases or damaged, restore them"
        )
    listed = read_json(groups, "the objects of a region").get("segGroups")
    if not isinstance(listed, list):
        raise SceneError(f"{groups}: has no list 'segGroups', expected objects; restore the file")
    object_of_segment: dict[int, int] = {}
    for place_in_list, group in enumerate(listed):
        fields = group if isinstance(group, dict) else {}
        number = fields.get("objectId", fields.get("id", place_in_list))
        if not isinstance(number, int) or not 0 <= number <= _LARGEST_OBJECT:
            raise SceneError(
                f"{groups}: an object has the number {str(number)[:40]}, expected "
                f"0 to {_LARGEST_OBJECT}; the file is damaged, restore it"
            )
        for segment in _integers(groups, "segments", fields.get("segments")):
            object_of_segment.setdefault(int(segment), number)  # the first of two keeps it
    known, place = np.unique(segment_of_face, return_inverse=True)
    objects = np.array([object_of_segment.get(int(segment), -1) for segment in known], np.int64)
    return torch.from_numpy(objects[place.reshape(-1)])


def _integers(path: Path, key: str, values: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        if not isinstance(values, list):
            raise TypeError(f"it is a {type(values).__name__}")
        if wrong := next((value for value in values if type(value) is not int), None):
            raise TypeError(f"it has {str(wrong)[:40]!r}")
        return np.array(values, dtype=np.int64)
    except (TypeError, OverflowError) as error:
        raise SceneError(
            f"{path}: '{key}' is no list of integers ({error}); the file is damaged, restore it"
        ) from error


def _frames(
    scan: Scan, settings: ReadSettings, points: Tensor
) -> tuple[list[ResizedFrame], dict[str, Any]]:
    """The frames that may see the points, and what to say about them."""
    conf = _conf(scan.folder)
    for folder in (scan.folder / _COLOR, scan.folder / _DEPTH):
        if not folder.is_dir():
            raise SceneError(
                f"{folder}: no such folder, expected the images that {conf.name} lists; "
                f"download {folder.name} of the house"
            )
    cameras = read_conf(conf)
    posed = [c for c in cameras if bool(torch.isfinite(c.camera_to_world).all())]
    lost = [c.name for c in cameras if not bool(torch.isfinite(c.camera_to_world).all())]
    if lost:
        _LOG.warning("%s: %d images left out, their pose is not finite", conf, len(lost))
    chosen, how = _inside(posed, points), "inside"
    if not chosen:
        chosen, how = _with_points_in_view(posed, points), "nearest with points in view"
        _LOG.warning(
            "%s: no image was taken inside of the region, its frames are the nearest %d that have "
            "points of it in view",
            *(scan.name, len(chosen)),
        )
    chosen = chosen[:: settings.frame_step or 1]
    size = settings.image_size or IMAGE_SIZE
    frames, missing = [], []
    for camera in chosen:
        color, depth = scan.folder / _COLOR / camera.color, scan.folder / _DEPTH / camera.depth
        if not (color.is_file() and depth.is_file()):
            missing.append(camera.name)
            continue
        file_size = common_file_size(conf, camera.intrinsics, color, depth)
        frames.append(
            ResizedFrame(
                name=camera.name,
                image_size=size,
                intrinsics=resize_camera(camera.intrinsics, file_size, size, settings.intrinsics),
                camera_to_world=camera.camera_to_world,
                image_path=color,
                depth_path=depth,
                file_size=file_size,
                depth_scale=settings.depth_scale or DEPTH_SCALE,
                resampling="nearest",
            )
        )
    if chosen and not frames:
        raise SceneError(
            f"{scan.folder / _COLOR}: has none of the {len(chosen)} images of {scan.name} with its "
            f"depth, such as {chosen[0].color}; download {_COLOR} and {_DEPTH} of the house"
        )
    if missing:
        _LOG.warning("%s: %d frames left out, they lack a file", scan.name, len(missing))
    return frames, {
        "frames_chosen": how,
        "frames_of_house": len(cameras),
        "frame_step": settings.frame_step or 1,
        "depth_scale": settings.depth_scale or DEPTH_SCALE,
        "intrinsics": settings.intrinsics,
        "skipped_frames": len(lost) + len(missing),
        "frames_without_pose": lost,
        "frames_without_file": missing,
    }


def _conf(house: Path) -> Path:
    own = house / _CAMERAS / f"{house.resolve().name}.conf"
    if own.is_file():
        return own
    found = sorted((house / _CAMERAS).glob("*.conf"))
    if len(found) != 1:
        raise SceneError(
            f"{own}: is missing ({len(found)} other .conf files there), expected the house's "
            f"cameras; download {_CAMERAS} of the house"
        )
    return found[0]


def _inside(cameras: Sequence[HouseCamera], points: Tensor) -> list[HouseCamera]:
    """Cameras whose centre lies inside the box of the points."""
    low, high = points.amin(dim=0).double(), points.amax(dim=0).double()
    return [
        camera
        for camera in cameras
        if bool(
            ((camera.camera_to_world[:3, 3] > low) & (camera.camera_to_world[:3, 3] < high)).all()
        )
    ]


def _with_points_in_view(cameras: Sequence[HouseCamera], points: Tensor) -> list[HouseCamera]:
    """The nearest cameras with points in their field of view, walls in between or not."""
    some = points[:: max(1, len(points) // _COUNTED_POINTS)].double()
    center = (points.amin(dim=0).double() + points.amax(dim=0).double()) / 2
    in_view = []
    for camera in cameras:
        pixels, depth = project_to_pixels(
            some, invert_pose(camera.camera_to_world), camera.intrinsics
        )
        # an image is about twice its principal point wide; its file may be missing
        extent = 2 * camera.intrinsics[:2, 2]
        seen = (depth > 0) & ((pixels >= 0) & (pixels < extent)).all(dim=1)
        if float(seen.double().mean()) >= _LEAST_IN_VIEW:
            in_view.append((float((camera.camera_to_world[:3, 3] - center).norm()), camera.name))
    names = {name for _, name in sorted(in_view)[:_MOST_OUTSIDE_FRAMES]}
    return [camera for camera in cameras if camera.name in names]
