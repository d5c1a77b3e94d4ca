"""transforms.json of a nerfstudio or Instant NGP capture, and the files that it names."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.errors import SceneError
from pcdistill.scenes.formats.images import COLOR_SUFFIXES
from pcdistill.scenes.formats.text import read_json
from pcdistill.scenes.paths import entries_of, is_existing_file, path_inside

_LOG = logging.getLogger(__name__)

MARKS = ("transforms.json", "transforms_train.json")
"""A folder is a capture where it has one of these; the second is how Blender's scenes begin."""

_WHAT = "cameras and frames of a nerfstudio capture"
_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?/")


class Transforms(NamedTuple):
    """What one file of transforms says."""

    file: Path
    content: dict[str, Any]
    frames: list[dict[str, Any]]
    """Its frames in the order of their `file_path`, which each of them has."""
    others: list[str]
    """The files of transforms beside it that were not taken."""


def read_transforms(folder: Path) -> Transforms:
    """The transforms of a capture; of several files the one most of whose images are there.

    Raises:
        SceneError: there is none, or it cannot be read, is damaged, or has no frames.
    """
    files = [path for path in entries_of(folder) if re.fullmatch(r"transforms.*\.json", path.name)]
    files.sort(key=lambda path: path.name != MARKS[0])  # where as many are there, the usual one
    if len(files) <= 1:
        return _read(files[0] if files else folder / MARKS[0], [])
    found = []
    for file in files:
        try:
            found.append(_read(file, []))
        except SceneError as error:
            _LOG.warning("%s", error)
    if not found:
        return _read(files[0], [])
    counts = [_count_images(folder, transforms) for transforms in found]
    chosen = found[counts.index(max(counts))]
    others = [file.name for file in files if file != chosen.file]
    _LOG.warning(
        "%s: has %d files of transforms, taking %s (%d images) and not %s",
        *(folder, len(files), chosen.file.name, max(counts), ", ".join(others)),
    )
    return chosen._replace(others=others)


def named_file(folder: Path, path: str, suffixes: Sequence[str]) -> Path | None:
    """The file that a capture names; None where there is none of these kinds.

    The path may be of another system (with backslashes), lack its suffix, and be of another
    machine or of another folder above: then the longest end of it that is there is taken. Nothing
    outside of the capture is.

    Args:
        folder: of the file that names it.
        path: as it is written there.
        suffixes: in lower case, which a file of this kind has.
    """
    path = path.strip()
    for spelled in dict.fromkeys((path, path.replace("\\", "/"))):
        inside = path_inside(folder, spelled)
        found = None if inside is None else _with_suffix(inside, suffixes)
        if found is not None:
            return found
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    # the name alone is enough only where the rest is another machine's
    least = 1 if _ABSOLUTE.match(path.replace("\\", "/")) else 2
    for start in range(1, len(parts) - least + 1):
        found = _with_suffix(folder.joinpath(*parts[start:]), suffixes)
        if found is not None:
            return found
    return None


def number_in(file: Path, content: dict[str, Any], key: str) -> float:
    """Read a finite number of a capture.

    Args:
        file: for the message.
        content: of it.
        key: of the number.

    Raises:
        SceneError: there is none of that name.
    """
    value = content.get(key)
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise SceneError(
            f"{file}: '{key}' is {str(value)[:40]}, expected a number; process the capture again"
        )
    return number


def positive_in(file: Path, content: dict[str, Any], key: str, what: str) -> float:
    """Read a number of a capture that says how much something was scaled.

    Args:
        file: for the message.
        content: of it.
        key: of the number.
        what: what it should be, for the message.

    Raises:
        SceneError: there is none of that name, or it is not between a millionth and a million.
    """
    number = number_in(file, content, key)
    if not 1e-6 < number < 1e6:
        raise SceneError(
            f"{file}: '{key}' is {number:g}, expected {what}; process the capture again"
        )
    return number


def matrix_in(file: Path, name: str, rows: Any) -> Tensor:
    """(4, 4) float64 from three or four rows of four; numbers may be NaN or infinite.

    Args:
        file: for the message.
        name: of the frame or camera, for the message.
        rows: as the file has them.

    Raises:
        SceneError: it is no such matrix.
    """
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
        if matrix.ndim != 2 or matrix.shape[0] not in (3, 4) or matrix.shape[1] != 4:
            raise ValueError(f"is {tuple(matrix.shape)}")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SceneError(
            f"{file}: the matrix of {name} {str(error)[:60]}, expected 4 rows of 4 numbers; "
            "process the capture again"
        ) from error
    if len(matrix) == 3:
        matrix = torch.cat([matrix, torch.tensor([[0, 0, 0, 1]], dtype=torch.float64)])
    return matrix


def _read(file: Path, others: list[str]) -> Transforms:
    content = read_json(file, _WHAT)
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise SceneError(
            f"{file}: has no list 'frames', expected file_path and transform_matrix of each; "
            "process the capture again"
        )
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
            raise SceneError(
                f"{file}: frame {place} has no 'file_path', expected the path of its image; "
                "process the capture again"
            )
    frames = sorted(entries, key=lambda entry: str(entry["file_path"]))
    return Transforms(file, content, frames, others)


def _count_images(folder: Path, transforms: Transforms) -> int:
    names = (entry["file_path"] for entry in transforms.frames)
    return sum(named_file(folder, name, COLOR_SUFFIXES) is not None for name in names)


def _with_suffix(path: Path, suffixes: Sequence[str]) -> Path | None:
    """The path itself where it is a file of these kinds, or it with one of the suffixes."""
    if path.suffix.lower() in suffixes and is_existing_file(path):
        return path
    every = (*suffixes, *(suffix.upper() for suffix in suffixes))
    return next((p for s in every if is_existing_file(p := Path(f"{path}{s}"))), None)
