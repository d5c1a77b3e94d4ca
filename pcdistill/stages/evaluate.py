"""Stage evaluate: labels of each method on the validation scenes, and their accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.artifacts import (
    HalfwayCounts,
    SceneCounts,
    estimate_sizes,
    labels_in_memory,
    open_artifacts,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.errors import SceneError
from pcdistill.inference import (
    CAPABILITY,
    COMBINED,
    ORACLE,
    SHUFFLED,
    ScenePieces,
    ScenePredictor,
    average_pieces,
    count_scene,
    looks_in_voxels,
    measure_capability,
    summarize_method,
    weighs_by_capability,
)
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_json, write_tensors
from pcdistill.scenes import Scene, open_stored_scene


class EvaluateStage(Stage):
    """A unit is a method, or the comparison of measured with true capability."""

    name = "evaluate"
    version = 8

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
        in_voxels = turned or looks_in_voxels(unit)
        weighs = weighs_by_capability(unit)
        compares_words = weighs or unit in COMBINED or unit == CAPABILITY
        return {
            "row": unit,
            "label_set": words.label_set.facts(),
            "prompts": words.label_prompts,
            "vocabulary": words.prompts(words.vocabulary) if compares_words else None,
            "text_encoder": self._text_encoder,
            "fuse": vars(self._fuse) if weighs else None,
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
            self._write_result(method, dict.fromkeys(scenes, SceneCounts((), {})))
            return "no true label names a word of the vocabulary, so that nothing can be known"
        halfway = HalfwayCounts(
            run.workspace.halfway_counts(method), task.fingerprint, len(run.words.label_set.names)
        )
        for number, name in enumerate(scenes):
            if halfway.load(name) is None:
                halfway.forget(name)
                halfway.save(name, self._measure(method, name, tables or (None,)))
            report(number + 1, len(scenes), "scenes")
        # read back in the end: kept one by one, they would lie between the arrays of the scenes
        counts = {name: halfway.require(name) for name in scenes}
        result = self._write_result(method, counts)
        halfway.remove()
        if result["miou"] is None:
            return f"labelled {len(scenes)} scenes, which have no true labels to compare with"
        drawn = f", mean of {len(tables)} draws" if len(tables) > 1 else ""
        interval = result["interval"]
        between = f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else ""
        return (
            f"mIoU {result['miou']:.1f} %{between}, mAcc {result['macc']:.1f} %, overall accuracy "
            f"{result['overall_accuracy']:.1f} % on {len(result['confusion'][0])} scenes{drawn}"
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

    def _measure(self, method: str, name: str, draws: Sequence[Tensor | None]) -> SceneCounts:
        """Predict one scene, write its labels, and count them against the true ones.

        Args:
            method: a name of the results table.
            name: of the scene.
            draws: capabilities (T, K) that the method fuses by; the labels of the first are
                written.

        Raises:
            SceneError: the scene has labels of another label set.
        """
        run = self._run
        scene = open_stored_scene(run.workspace.scene(name))
        truth = self._scored_labels(scene)
        counted = []
        for number, table in enumerate(draws):
            features, seen = self._predictor.features(method, name, table)
            predicted = run.words.classify(features, seen)
            if number == 0:
                self._write_prediction(method, scene, features, seen, predicted)
            if truth is not None:
                counted.append(count_scene(run, features, seen, predicted, truth))
        first = {
            size: tuple(first[size] for _, first in counted) for size in run.protocol.first_classes
        }
        return SceneCounts(tuple(whole for whole, _ in counted), first)

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

    def _write_result(self, method: str, counts: Mapping[str, SceneCounts]) -> dict[str, Any]:
        """Write the numbers of a method, merged from the counts of its scenes."""
        found = summarize_method(self._run, method, counts)
        write_json(self._run.workspace.result(method), found)
        return found
