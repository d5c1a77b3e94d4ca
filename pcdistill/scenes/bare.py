"""A single file with a cloud or mesh as a scene without frames, for a trained student.

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

import numpy as np
import numpy.typing as npt

from pcdistill.errors import SceneError
from pcdistill.scenes.capture import build_scene, by_number, is_there, require_unset
from pcdistill.scenes.extras import import_extra
from pcdistill.scenes.las import read_las
from pcdistill.scenes.pcd import PcdCloud, as_ply, read_pcd
from pcdistill.scenes.ply import read_ply
from pcdistill.scenes.reading import Reader, ReadSettings, Scan
from pcdistill.scenes.scene import Scene
from pcdistill.scenes.strays import without_strays

_LOG = logging.getLogger(__name__)

SUFFIXES = (".ply", ".pcd", ".las", ".laz", ".e57")

_Floats = npt.NDArray[np.float64]


def find_bare(path: Path) -> tuple[Scan, ...]:
    """The file itself where it is a cloud, or all clouds in a folder."""
    if is_there(path):
        return (Scan(path.stem, path),) if path.suffix.lower() in SUFFIXES else ()
    if not path.is_dir():
        return ()
    files = [
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and is_there(entry)
    ]
    files.sort(key=lambda file: by_number(file.name))
    stems = [file.stem for file in files]
    return tuple(
        Scan(file.stem if stems.count(file.stem) == 1 else file.name, file, file.name)
        for file in files
    )


def open_bare(scan: Scan, settings: ReadSettings) -> Scene:
    """Read one file with a cloud or mesh.

    Points that measure nothing (an organised cloud's empty pixels, a scanner's misses, strays) are
    left out and counted, see `without_strays`.

    Raises:
        SceneError: the file is missing, damaged, or has no points.
        MissingExtraError: LAS or E57, and no package that reads it.
        ConfigError: a setting other than `up`.
    """
    require_unset(scan, settings, "up")
    file = scan.folder
    suffix = file.suffix.lower()
    if suffix == ".ply":
        surface = read_ply(file)
    elif suffix == ".pcd":
        surface = as_ply(read_pcd(file))
    elif suffix in (".las", ".laz"):
        surface = read_las(file)
    elif suffix == ".e57":
        surface = as_ply(_read_e57(file))
    else:
        raise SceneError(f"{file}: is no {', '.join(SUFFIXES)} file; give the cloud as one of them")
    surface = without_strays(file, surface)
    if surface.offset.any():
        _LOG.info(
            "%s: moved by %s m to lie near the origin",
            file,
            [-step for step in surface.offset.tolist()],
        )
    if len(surface.points) == 0:
        raise SceneError(f"{file}: has no points, expected a mesh or cloud; write it again")
    provenance: dict[str, Any] = {
        "reader": "bare",
        "surface": file.name,
        "dropped_points": sum(surface.left_out.values()),
        "skipped_frames": 0,
    }
    return build_scene(scan, settings, [], surface, up=settings.up, provenance=provenance)


def _damaged(file: Path, error: Exception) -> SceneError:
    reason = str(error).split("\n")[0][:80] or type(error).__name__
    return SceneError(f"{file}: cannot be read ({reason}); it is damaged, export it again")


def _read_e57(file: Path) -> PcdCloud:
    pye57 = import_extra(file, "pye57", "e57", "convert the file to .ply")
    points: list[_Floats] = []
    colors: list[npt.NDArray[np.uint8]] = []
    try:
        content = pye57.E57(str(file))
        for place in range(content.scan_count):
            scan = content.read_scan(place, ignore_missing_fields=True, colors=True)
            points.append(
                np.stack([scan[f"cartesian{axis}"] for axis in "XYZ"], axis=1).astype(np.float64)
            )
            if "colorRed" in scan:
                channels = [scan[f"color{name}"] for name in ("Red", "Green", "Blue")]
                colors.append(np.clip(np.stack(channels, axis=1), 0, 255).astype(np.uint8))
    except Exception as error:  # the package raises its own kinds on damaged files
        raise _damaged(file, error) from error
    if not points:
        raise SceneError(f"{file}: has no scan, expected at least one; export it again")
    together = np.concatenate(points)
    all_colors = np.concatenate(colors) if len(colors) == len(points) else None
    return PcdCloud(together, all_colors, None)


BARE = Reader("a .ply, .pcd, .las, .laz or .e57 file (a cloud or mesh)", find_bare, open_bare)
