"""Reader of a single cloud or mesh file: a scene without frames, for a trained student.

    NAME.ply            mesh or cloud: x y z, colours, normals, faces
    NAME.pcd            ascii, binary or binary_compressed: x y z, rgb, normals
    NAME.las NAME.laz   surveyed points with colours; needs the extra `las`
    NAME.e57            scans of a terrestrial scanner, together; needs the extra `e57`

Coordinates of a survey (kilometres from their origin) are moved to their own, which 32-bit numbers
need to be exact to the millimetre; the provenance has the offset.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pcdistill.errors import SceneError
from pcdistill.scenes.checks.strays import clean_surface
from pcdistill.scenes.formats.e57 import read_e57
from pcdistill.scenes.formats.las import read_las
from pcdistill.scenes.formats.pcd import read_pcd, to_ply
from pcdistill.scenes.formats.ply import read_ply
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.readers.base import Reader, Scan, refuse_all_but
from pcdistill.scenes.readers.capture.build_scene import build_scene
from pcdistill.scenes.readers.capture.naming import natural_sort_key
from pcdistill.scenes.scene import Scene

_LOG = logging.getLogger(__name__)

SUFFIXES = (".ply", ".pcd", ".las", ".laz", ".e57")


def find_cloud_file(path: Path) -> tuple[Scan, ...]:
    """The file itself where it is a cloud, or all clouds in a folder."""
    if is_existing_file(path):
        return (Scan(path.stem, path),) if path.suffix.lower() in SUFFIXES else ()
    if not is_folder(path):
        return ()
    files = [
        entry
        for entry in entries_of(path)
        if entry.suffix.lower() in SUFFIXES
        and not entry.name.startswith(".")
        and is_existing_file(entry)
    ]
    files.sort(key=lambda file: natural_sort_key(file.name))
    stems = [file.stem for file in files]
    return tuple(
        Scan(file.stem if stems.count(file.stem) == 1 else file.name, file, file.name)
        for file in files
    )


def open_cloud_file(scan: Scan, settings: ReaderSettings) -> Scene:
    """Read one file with a cloud or mesh.

    Points that measure nothing (an organised cloud's empty pixels, a scanner's misses, strays) are
    left out and counted, see `without_strays`.

    Raises:
        SceneError: the file is missing, damaged, or has no points.
        MissingExtraError: LAS or E57, and no package that reads it.
    """
    file = scan.folder
    suffix = file.suffix.lower()
    if suffix == ".ply":
        surface = read_ply(file)
    elif suffix == ".pcd":
        surface = to_ply(read_pcd(file))
    elif suffix in (".las", ".laz"):
        surface = read_las(file)
    elif suffix == ".e57":
        surface = read_e57(file)
    else:
        raise SceneError(f"{file}: is no {', '.join(SUFFIXES)} file; give the cloud as one of them")
    surface = clean_surface(file, surface)
    if surface.offset.any():
        _LOG.info(
            "%s: moved by %s m to lie near the origin",
            file,
            [-step for step in surface.offset.tolist()],
        )
    if len(surface.points) == 0 and surface.left_out:
        said = ", ".join(f"{count} {reason}" for reason, count in surface.left_out.items())
        raise SceneError(
            f"{file}: all of its points are left out: {said}; expected a mesh or cloud, write it "
            "again"
        )
    if len(surface.points) == 0:
        raise SceneError(f"{file}: has no points, expected a mesh or cloud; write it again")
    provenance: dict[str, Any] = {
        "reader": "bare",
        "surface": file.name,
        "dropped_points": sum(surface.left_out.values()),
        "skipped_frames": 0,
    }
    return build_scene(scan, settings, [], surface, up=settings.up_axis, provenance=provenance)


CLOUD_FILE = Reader(
    "a .ply, .pcd, .las, .laz or .e57 file (a cloud or mesh)",
    find_cloud_file,
    open_cloud_file,
    settings=refuse_all_but("up_axis"),
)
