"""What can be shown of one scene: its own colours, true classes, and what each method says."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.artifacts import labels_in_memory, load_predictions
from pcdistill.inference import ORACLE, FinishedRun, ScenePieces
from pcdistill.lifting import SceneProjector
from pcdistill.pipeline import read_provenance
from pcdistill.scenes import Scene, open_stored_scene
from pcdistill.viewer.detail import Block, build_blocks
from pcdistill.visualization import (
    UNSEEN,
    below_ceiling_mask,
    closing_diameter,
    colorize_labels,
    colorize_scores,
    score_range,
)

SCAN = "scan"
"""View of the scan's own colours."""
TRUTH = "truth"
"""View of the true classes."""
ANSWER = "answer"
"""View of how well every point fits what was asked."""

_LAMP = (0.32, 0.48, 0.82)  # towards the light that surfaces are shaded by
_DARKEST = 0.78  # share of its colour that a surface along the light keeps


class Coloring(NamedTuple):
    """Colours of the N points of a scene in one view."""

    colors: Tensor
    """(N, 3) uint8."""
    labels: Tensor | None = None
    """(N,) int64 evaluation classes, negative for none; None where colours are no classes."""
    scores: tuple[float, float] | None = None
    """Scores of the first and the last colour of a heat map."""


class SceneContent:
    """What can be shown of a scene; everything is made when it is first asked for, and kept."""

    def __init__(self, run: FinishedRun, name: str) -> None:
        self.name = name
        self._run = run
        self._pieces = ScenePieces(run.artifacts, run.predictor)
        self._colorings: dict[str, Coloring] = {}

    @cached_property
    def scene(self) -> Scene:
        """The stored scene."""
        return open_stored_scene(self._run.artifacts.workspace.scene(self.name))

    @cached_property
    def points(self) -> NDArray[np.float32]:
        """(N, 3) metres."""
        found: NDArray[np.float32] = self.scene.points.numpy()
        return found

    @cached_property
    def blocks(self) -> list[Block]:
        """The points in blocks, for level of detail."""
        return build_blocks(self.scene.points, self.scene.normals)

    @cached_property
    def point_size(self) -> float:
        """Diameter of points, metres, that closes the surface."""
        return closing_diameter(self.points.astype(np.float64))

    @cached_property
    def below_ceiling(self) -> Tensor:
        """(N,) bool: what stays where the ceiling is hidden."""
        return below_ceiling_mask(self.scene.points, self.scene.normals)

    @cached_property
    def projector(self) -> SceneProjector:
        """Tells which points a frame sees, by the rules of the run."""
        return SceneProjector(self.scene, self._run.artifacts.point_features.rules)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that have something to say of this scene."""
        return tuple(name for name in self._run.predictor.methods.known if self._is_available(name))

    @cached_property
    def views(self) -> tuple[str, ...]:
        """What can be shown without a question, the scan first."""
        truth = (TRUTH,) if self.scene.labels is not None else ()
        return (SCAN, *truth, *self.methods)

    @property
    def best_method(self) -> str | None:
        """The method that is shown and answers unless another is named."""
        best = self._run.best_method if self.methods else ""
        answering = [m for m in self._run.predictor.methods.answering if m in self.methods]
        return best if best in self.methods else answering[-1] if answering else None

    def coloring(self, view: str) -> Coloring:
        """Colours of one of `views`.

        Raises:
            ConfigError: the method has nothing to say.
            ArtifactError: a file of the run is missing or damaged.
        """
        if view not in self._colorings:
            self._colorings[view] = self._color(view)
        return self._colorings[view]

    def answer_coloring(self, relevancy: Tensor) -> Coloring:
        """Colours of how well every point fits a question; darker grey where nothing is known.

        Args:
            relevancy: (N,) float32 in [0, 1], NaN where nothing is known.
        """
        low, high = score_range(relevancy)
        colors = colorize_scores(relevancy, low=low, high=high)
        colors[relevancy.isnan()] = torch.tensor(UNSEEN, dtype=torch.uint8)
        return Coloring(self._shaded(colors), scores=(low, high))

    def labels(self, view: str) -> Tensor | None:
        """(N,) int64 classes of a view; None of the scan's own colours."""
        return self.coloring(view).labels

    def known_labels(self) -> dict[str, Tensor]:
        """Classes (N,) int64 of the views that were shown so far, by view."""
        found = self._colorings.items()
        return {view: one.labels for view, one in found if one.labels is not None}

    def _color(self, view: str) -> Coloring:
        if view == SCAN:
            if self.scene.colors is not None:
                return Coloring(self.scene.colors)
            plain = torch.full((len(self.scene.points), 3), 200, dtype=torch.uint8)
            return Coloring(self._shaded(plain))
        labels = self._true_labels() if view == TRUTH else self._method_labels(view)
        palette = self._run.artifacts.words.label_set.palette
        return Coloring(self._shaded(colorize_labels(labels, palette)), labels)

    def _shaded(self, colors: Tensor) -> Tensor:
        """(N, 3) uint8 of (N, 3) uint8: as under a lamp, so that shapes of one colour are seen."""
        normals = self.scene.normals
        if normals is None:
            return colors
        facing = (normals @ torch.tensor(_LAMP)).abs()  # (N,)
        facing[~normals.any(dim=1)] = 1.0
        light = _DARKEST + (1 - _DARKEST) * facing.clamp(max=1)
        return (colors * light[:, None]).round().to(torch.uint8)

    def _true_labels(self) -> Tensor:
        if self.scene.labels is None:
            raise ValueError(f"scene {self.name} has no labels")
        label_set = self._run.artifacts.words.label_set
        return labels_in_memory(label_set, self.scene, self.scene.labels)

    def _method_labels(self, method: str) -> Tensor:
        """As stage evaluate stored them, where they are of the run as it is; else computed."""
        workspace = self._run.artifacts.workspace
        if self._is_stored(method):
            return load_predictions(workspace, method, self.name)
        return self._run.labels(self.name, method)

    def _is_stored(self, method: str) -> bool:
        path = self._run.artifacts.workspace.prediction(method, self.name)
        if not path.is_file():
            return False
        made_from = self._pieces.made_from(method, self.name)
        return bool(read_provenance(path).get("made_from") == made_from)

    def _is_available(self, method: str) -> bool:
        """Whether a method's labels are stored, or can be computed within seconds."""
        run = self._run.artifacts
        if self._is_stored(method):
            return True
        if not method.startswith("student:") and not run.point_features.stores(self.name):
            return False
        if method == ORACLE and not run.workspace.result(ORACLE).is_file():
            return False  # what is true has not been measured
        needed = self._run.predictor.methods.dependencies(
            method, (self.name,), run.scenes.validation
        )
        records = (run.workspace.record(one.stage, one.unit) for one in needed)
        return all(record is not None and record.state == "done" for record in records)
