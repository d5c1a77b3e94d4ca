"""Confusion counts of the scenes of a method while not all of them are measured."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from pcdistill.errors import ArtifactError
from pcdistill.evaluation import confusion_cells, confusion_counts
from pcdistill.pipeline import read_json, slug, write_json


class SceneCounts(NamedTuple):
    """Points of one scene, counted by predicted and true category."""

    draws: tuple[Tensor, ...]
    """For each draw of the method (K + 1, K) int64, `ConfusionMatrix.counts`; none where the scene
    has no labels."""
    first: dict[int, tuple[Tensor, ...]]
    """The same among the first classes alone, by how many these are."""


class HalfwayCounts:
    """Folder of the counts of scenes that are measured, so that an interrupted measuring goes on.

    Args:
        folder: made when the first scene is written.
        mark: of the work; counts of other work are measured anew.
        classes: K, of the label set.
    """

    def __init__(self, folder: Path, mark: str, classes: int) -> None:
        self._folder = folder
        self._mark = mark
        self._classes = classes

    def load(self, scene: str) -> SceneCounts | None:
        """Read the counts of a scene; None where it was not measured by this work."""
        try:
            found = read_json(self._file(scene))
            if found["mark"] != self._mark or found["scene"] != scene:
                return None
            draws = tuple(confusion_counts(cells, self._classes) for cells in found["draws"])
            first = {
                int(size): tuple(confusion_counts(cells, int(size)) for cells in draws)
                for size, draws in found["first"].items()
            }
        except (
            ArtifactError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            AttributeError,
            IndexError,
            RuntimeError,
        ):
            return None  # not there, or damaged: the scene is measured anew
        return SceneCounts(draws, first)

    def require(self, scene: str) -> SceneCounts:
        """Read the counts of a scene that was measured.

        Raises:
            ArtifactError: they are not there, or damaged.
        """
        found = self.load(scene)
        if found is None:
            raise ArtifactError(
                f"{self._file(scene)} lacks the counts of {scene}, which were just written; run "
                "again"
            )
        return found

    def save(self, scene: str, counts: SceneCounts) -> None:
        """Write the counts of a scene, once everything else of it is written."""
        value = {
            "mark": self._mark,
            "scene": scene,
            "draws": [confusion_cells(one) for one in counts.draws],
            "first": {
                size: [confusion_cells(one) for one in draws]
                for size, draws in counts.first.items()
            },
        }
        write_json(self._file(scene), value)

    def forget(self, scene: str) -> None:
        """Remove the counts of a scene, before anything of it is written anew."""
        self._file(scene).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of them, once the result is written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, scene: str) -> Path:
        return self._folder / f"{slug(scene)}.json"
