"""Reader of Matterport3D regions.

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
matrix is scaled about the image's border (`intrinsics: openscene` gives that of its files, some
thousandths of a pixel away). Camera axes are converted in `cameras`.
"""

from __future__ import annotations

import re
from pathlib import Path

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.mesh_checks import check_mesh_extent, normalize_normals
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.origin import no_offset
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Division, Reader, Refusal, Scan
from pcdistill.scenes.readers.matterport.faces import read_faces, read_instances
from pcdistill.scenes.readers.matterport.frames import region_frames
from pcdistill.scenes.readers.matterport.labels import (
    MATTERPORT_LABEL_SETS,
    label_points,
    read_category_labels,
    require_label_set,
)
from pcdistill.scenes.scene import Scene

_REGIONS = "region_segmentations"
_CAMERAS = "undistorted_camera_parameters"
_COLOR, _DEPTH = "undistorted_color_images", "undistorted_depth_images"
_TABLE = "category_mapping.tsv"

_REFUSED = dict.fromkeys(
    (
        "up_axis",
        "pose_convention",
        "surface_file",
        "fuse_voxel_size",
        "align_axes",
        "sweeps",
    ),
    Refusal("`{name}` is {value!r}, Matterport3D says this itself; leave the setting out"),
)


def find_matterport(folder: Path) -> tuple[Scan, ...]:
    """The regions of a house, of a folder of houses, or of a data set with `scans/` or `v1/scans/`.

    Args:
        folder: any folder.

    Returns:
        Scans in the order of houses and region numbers; a house without regions is one scan whose
        part is empty. Nothing where the folder is of another layout.
    """
    places = (folder, folder / "scans", folder / "v1/scans")
    for houses in ([folder], *map(_children, places)):
        found = [(house.resolve().name, _inner(house)) for house in houses]
        found = [(name, house) for name, house in found if _is_house(house)]
        if found:
            return tuple(
                Scan(f"{name}_{region}" if region else name, house, region)
                for name, house in found
                for region in _regions(house) or [""]
            )
    return ()


def open_matterport(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one region of a house; images stay on disk until they are asked for.

    Args:
        scan: of `find_matterport`.
        settings: `image_size` (512, 640), `depth_scale` 4000, `frame_step` 1 and `label_set`
            matterport21 unless set; what has no meaning here must stay at its default.

    Raises:
        ConfigError: the label set is none that Matterport3D's labels can be given in.
        SceneError: something is missing, damaged, or does not fit together.
    """
    label_set = settings.label_set or MATTERPORT_LABEL_SETS[0]
    require_label_set(label_set)
    house = scan.folder
    mesh = _mesh(scan)
    table = find_table(house)
    category_labels = read_category_labels(table, label_set)
    surface = read_ply(mesh, offset=no_offset())
    check_mesh_extent(mesh, surface.points)
    if surface.faces is None or len(surface.faces) == 0:
        raise SceneError(
            f"{mesh}: has no faces, expected a mesh with a category per face; restore it"
        )
    faces = read_faces(mesh, surface.faces)
    labels = label_points(
        mesh,
        faces.category[faces.of_triangle],
        faces.triangles,
        len(surface.points),
        category_labels,
    )
    instances, instance_source = read_instances(mesh, faces, len(surface.points))
    frames, provenance = region_frames(scan, settings, surface.points)
    return Scene(
        name=scan.name,
        points=surface.points,
        colors=surface.colors,
        normals=normalize_normals(surface.normals),
        labels=labels,
        instances=instances,
        faces=surface.faces,
        frames=tuple(frames),
        label_set=label_set,
        provenance={
            "reader": "matterport",
            "source": str(mesh),
            "surface": mesh.name,
            "surface_is_part": True,
            "category_table": str(table),
            "instances": instance_source,
            "up": "z",
            **provenance,
        },
    )


def _files(scan: Scan) -> list[Path]:
    """What one region is read from; the images and cameras are those of its house."""
    house = scan.folder
    own = [house / _REGIONS]
    if scan.part:
        suffixes = (".ply", ".fsegs.json", ".semseg.json")
        own = [house / _REGIONS / f"{scan.part}{suffix}" for suffix in suffixes]
    return [*own, *(house / name for name in (_CAMERAS, _COLOR, _DEPTH)), *_tables(house)]


def _division(scan: Scan) -> Division:
    """Every region has a category per face; which house is on which side, lists say."""
    return Division(bool(scan.part))


MATTERPORT = Reader(
    f"{_REGIONS}/ and {_CAMERAS}/ (houses of Matterport3D)",
    find_matterport,
    open_matterport,
    _files,
    _division,
    {side: f"scenes_{side}.txt" for side in ("train", "val", "test")},
    ("test", "val"),
    _REFUSED,
)


def find_table(house: Path) -> Path:
    """The category table beside a house: in its folder or up to four above, or their `metadata/`.

    Raises:
        SceneError: there is none.
    """
    tables = _tables(house)
    if tables:
        return tables[0]
    above = [house.resolve(), *house.resolve().parents[:2]]
    raise SceneError(
        f"{above[-1] / _TABLE}: is missing, expected the category table of Matterport3D there, in "
        "metadata/, or beside the house; copy it from the data set's repository "
        "(metadata/category_mapping.tsv)"
    )


def _tables(house: Path) -> list[Path]:
    above = [house.resolve(), *house.resolve().parents[:4]]
    places = (place for folder in above for place in (folder, folder / "metadata"))
    return [place / _TABLE for place in places if is_existing_file(place / _TABLE)]


def _children(folder: Path) -> list[Path]:
    return [child for child in entries_of(folder) if is_folder(child)]


def _inner(house: Path) -> Path:
    """The house itself; its archives unpack to `<house>/<house>/` where they are not merged."""
    doubled = house / house.resolve().name
    return doubled if not _is_house(house) and _is_house(doubled) else house


def _is_house(folder: Path) -> bool:
    return any(is_folder(folder / name) for name in (_REGIONS, _CAMERAS, _COLOR))


def _regions(house: Path) -> list[str]:
    """`region0`, `region1`, ... by number; also those of which only the JSON files are there."""
    files = [path.name for path in entries_of(house / _REGIONS)]
    names = {name.split(".")[0] for name in files if name.startswith("region") and "." in name}
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
    if not is_existing_file(mesh):
        raise SceneError(
            f"{mesh}: is missing, only other files of the region are there, expected its mesh; "
            "download region_segmentations of the house again"
        )
    return mesh
