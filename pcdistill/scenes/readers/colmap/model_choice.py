"""Choice between COLMAP models: the one that most images are in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pcdistill.errors import SceneError
from pcdistill.scenes.paths import entries_of, is_existing_file, is_folder
from pcdistill.scenes.readers.capture.naming import natural_sort_key
from pcdistill.scenes.readers.colmap.model import count_images, read_cameras

_LOG = logging.getLogger(__name__)

_DENSE = "dense"
_SPARSE = "sparse"
_SUFFIXES = (".bin", ".txt")
_MIN_SHARE = 0.5  # of the images of the largest model, for one that is read in its place


class ColmapModel(NamedTuple):
    """The files of one model, and where its images are."""

    workspace: Path
    """Has the images, and dense depth where there is some."""
    folder: Path
    """Has cameras, images and points3D."""
    suffix: str
    """".bin" or ".txt", as both may stand beside each other."""


def find_models(folder: Path) -> list[ColmapModel]:
    """Models of a project, those of undistorted images first, then by their numbers.

    Args:
        folder: has sparse/, sparse/0, ..., or such folders in dense/, dense/0, ...
    """
    dense = folder / _DENSE
    workspaces = [dense, *_numbered(dense), folder]
    return [
        ColmapModel(workspace, place, suffix)
        for workspace in workspaces
        for place in (*_numbered(workspace / _SPARSE), workspace / _SPARSE)
        for suffix in _suffixes(place)
    ]


def choose_model(where: Path, models: Sequence[ColmapModel]) -> tuple[ColmapModel, list[str]]:
    """The model with most images, and what the others are called.

    One of at least half as many images is taken in its place where its own lenses bend lines and
    those of the other, such as its undistorted copy, do not.

    Args:
        where: the project, for names and messages.
        models: at least one, the preferred one first among those with as many images.
    """
    if len(models) == 1:
        return models[0], []
    counts = [_count(model) for model in models]
    order = sorted(range(len(models)), key=lambda place: -counts[place])
    chosen = order[0]
    if not _is_read(models[chosen]):
        rest = [place for place in order[1:] if counts[place] >= _MIN_SHARE * counts[chosen]]
        chosen = next((place for place in rest if _is_read(models[place])), chosen)
    others = [
        f"{_name(where, model)} ({count} images)"
        for model, count in zip(models, counts, strict=True)
        if model != models[chosen]
    ]
    _LOG.warning(
        "%s: has %d COLMAP models, taking %s (%d images) and not %s",
        *(where, len(models), _name(where, models[chosen]), counts[chosen], ", ".join(others)),
    )
    return models[chosen], others


def _numbered(folder: Path) -> list[Path]:
    """sparse/0, sparse/1, ..., or dense/0, dense/1, ..."""
    inside = [entry for entry in entries_of(folder) if entry.name.isdecimal() and is_folder(entry)]
    return sorted(inside, key=lambda entry: natural_sort_key(entry.name))


def _suffixes(place: Path) -> list[str]:
    """The kinds of files that are a whole model; the kind that some are of where none is whole."""
    kinds = [
        [suffix for suffix in _SUFFIXES if is_existing_file(place / f"{name}{suffix}")]
        for name in ("cameras", "images")
    ]
    return [kind for kind in kinds[0] if kind in kinds[1]] or (kinds[0] or kinds[1])[:1]


def _count(model: ColmapModel) -> int:
    try:
        return count_images(model.folder, model.suffix)
    except SceneError as error:
        _LOG.warning("%s", error)
        return 0


def _is_read(model: ColmapModel) -> bool:
    try:
        read_cameras(model.folder, model.suffix)
    except SceneError:
        return False
    return True


def _name(where: Path, model: ColmapModel) -> str:
    kind = "binary" if model.suffix == ".bin" else "text"
    return f"{model.folder.relative_to(where)} ({kind})"
