"""Stage evaluate: labels of each method on the validation scenes, and their accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.artifacts import estimate_sizes, labels_in_memory, open_artifacts
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.evaluation import (
    ConfusionMatrix,
    confusion_cells,
    evaluate_semantic,
)
from pcdistill.inference import (
    CAPABILITY,
    COMBINED,
    FUSED,
    ORACLE,
    SHUFFLED,
    VOXELS,
    ScenePieces,
    ScenePredictor,
    average_pieces,
    measure_capability,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_json, write_tensors
from pcdistill.scenes import Scene, open_scene


class Labelled(NamedTuple):
    """Predicted and true labels of a scene."""

    scene: str
    predicted: Tensor
    """(N,) int64, `NO_FEATURE_LABEL` where the method has no answer."""
    truth: Tensor
    """(N,) int64, `IGNORE_LABEL` where a point is not scored."""


class EvaluateStage(Stage):
    """A unit is a method, or the comparison of measured with true capability."""

    name = "evaluate"
    version = 6

    def __init__(self, run: RunContext) -> None:
        self._run = open_artifacts(run)
        self._predictor = ScenePredictor(self._run)
        self._pieces = ScenePieces(self._run, self._predictor)
        self._sizes = estimate_sizes(run)
        self._text_encoder = run.text_encoder_mark
        self._fuse = run.config.fuse

    def units(self) -> tuple[str, ...]:
        """All methods, and the capability where there are teachers."""
        return (*self._predictor.methods.names, *((CAPABILITY,) if self._run.teachers else ()))

    def settings(self, unit: str) -> Mapping[str, Any]:
        """Classes, words, protocol, and what decides the method's predictions."""
        words, protocol = self._run.words, self._run.protocol
        turned = protocol.runs == "turned"
        in_voxels = turned or unit == VOXELS or unit.startswith("student")
        compares_words = unit in COMBINED or unit == CAPABILITY
        return {
            "row": unit,
            "label_set": words.label_set.facts(),
            "prompts": words.label_prompts,
            "vocabulary": words.prompts(words.vocabulary) if compares_words else None,
            "text_encoder": self._text_encoder,
            "fuse": vars(self._fuse) if unit in FUSED else None,
            "voxel_size": self._run.voxel_size if in_voxels else None,
            "seed": self._run.seed if turned or unit == SHUFFLED else None,
            "protocol": self._run.protocol_line,
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """What the method needs of every validation scene."""
        validation = self._run.scenes.validation
        return self._predictor.methods.dependencies(unit, validation, validation)

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """Folder of the method's result and predictions."""
        if unit == CAPABILITY:
            return (self._run.workspace.true_capability,)
        return (self._run.workspace.evaluation(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Predict every validation scene and compare with its labels.

        Raises:
            SceneError: no validation scene is ready, or one has labels of another label set.
        """
        run, method, validation = self._run, task.unit, self._run.scenes.validation
        scenes = self._predictor.methods.ready_scenes(task, validation)
        if not scenes:
            raise SceneError(
                f"{method}: none of the {len(validation)} validation scenes is lifted and "
                "partitioned; mend what failed before"
            )
        if method == CAPABILITY:
            return measure_capability(run.workspace, run.words, run.point_features, scenes)
        tables = self._predictor.capabilities(method, scenes)
        if method == ORACLE and not tables:
            self._write_result(method, scenes, [])
            return "no true label names a word of the vocabulary, so that nothing can be known"
        draws: Sequence[Tensor | None] = tables or (None,)
        labelled: list[list[Labelled]] = [[] for _ in draws]
        for number, name in enumerate(scenes):
            scene = open_scene(run.workspace.scene(name))
            truth = self._scored_labels(scene)
            for draw, table in enumerate(draws):
                features, seen = self._predictor.features(method, name, table)
                predicted = run.words.classify(features, seen)
                if draw == 0:
                    self._write_prediction(method, scene, features, seen, predicted)
                if truth is not None:
                    labelled[draw].append(Labelled(name, predicted, truth))
            report(number + 1, len(scenes), "scenes")
        found = self._write_result(method, scenes, labelled)
        if found["miou"] is None:
            return f"labelled {len(scenes)} scenes, which have no true labels to compare with"
        drawn = f", mean of {len(draws)} draws" if len(draws) > 1 else ""
        return (
            f"mIoU {found['miou']:.1f} %, mAcc {found['macc']:.1f} % on {len(labelled[0])} scenes"
            f"{drawn}"
        )

    def estimate(self, unit: str) -> int:
        """Bytes: a label and a piece of four each per point, and the pieces' features."""
        if unit == CAPABILITY:
            return 0
        features = 2 * self._run.words.text_encoder.dimensions
        return sum(
            8 * self._sizes.points(scene) + features * self._sizes.superpoints(scene)
            for scene in self._run.scenes.validation
        )

    def _scored_labels(self, scene: Scene) -> Tensor | None:
        """(N,) int64 true labels, `IGNORE_LABEL` where a point is not scored; None without any."""
        if scene.labels is None:
            return None
        truth = labels_in_memory(self._run.words.label_set, scene, scene.labels)
        if self._run.protocol.points == "seen":
            seen = self._run.point_features.seen_mask(scene.name)
            truth = torch.where(seen, truth, IGNORE_LABEL)
        return truth

    def _write_prediction(
        self, method: str, scene: Scene, features: Tensor, seen: Tensor, predicted: Tensor
    ) -> None:
        """Write labels (N,) and mean features of pieces, of features (N, D) where seen (N,)."""
        pieces = average_pieces(features, seen, self._pieces.cut(scene))
        write_tensors(
            self._run.workspace.prediction(method, scene.name),
            {
                "labels": predicted.int(),
                "pieces": pieces.ids.int(),
                "piece_features": pieces.features.half(),
            },
            {
                "row": method,
                "classes": self._run.words.label_set.names,
                "made_from": self._pieces.made_from(method, scene.name),
            },
        )

    def _write_result(
        self, method: str, scenes: tuple[str, ...], labelled: list[list[Labelled]]
    ) -> dict[str, Any]:
        """Write the numbers of a method: the mean over draws, and each draw's counts per scene."""
        names = self._run.words.label_set.names
        measured = [
            evaluate_semantic(
                [(one.predicted, one.truth) for one in draw], names, self._run.protocol
            )
            for draw in labelled
        ]
        measured = [found for found in measured if not math.isnan(found.miou)]
        first = measured[0] if measured else None
        per_class = _mean_per_class([draw.per_class for draw in measured])
        found = {
            "name": method,
            "miou": fmean(draw.miou for draw in measured) if first else None,
            "macc": fmean(draw.macc for draw in measured) if first else None,
            "per_class": per_class or dict.fromkeys(names),
            "points": first.points if first else 0,
            "points_without_answer": first.unseen_points if first else 0,
            "scenes": list(scenes),
            "protocol": self._run.protocol_line,
            "confusion": [
                {one.scene: _confusion(one, len(names)) for one in draw} for draw in labelled
            ],
        }
        write_json(self._run.workspace.result(method), found)
        return found


def _confusion(one: Labelled, classes: int) -> list[list[int]]:
    counted = ConfusionMatrix(classes)
    counted.update(one.predicted, one.truth)
    return confusion_cells(counted.counts)


def _mean_per_class(draws: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Mean over draws of each class; None for a class without a true point."""
    together = {name: [draw[name] for draw in draws] for name in (draws[0] if draws else ())}
    known = {name: [v for v in values if v is not None] for name, values in together.items()}
    return {name: fmean(values) if values else None for name, values in known.items()}
