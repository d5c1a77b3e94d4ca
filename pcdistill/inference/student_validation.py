"""Accuracy of a student on the validation scenes while it learns, by the run's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from pcdistill.artifacts import labels_in_memory, load_student_input
from pcdistill.distillation import current_ranks, infer_point_features
from pcdistill.errors import TrainingError
from pcdistill.evaluation import ConfusionMatrix, Protocol, SemanticResult, score_counts
from pcdistill.pipeline import RunWords, Workspace
from pcdistill.scenes import open_stored_scene


class StudentValidation:
    """Zero-shot labels of the validation scenes against their true ones.

    What stage evaluate measures, but of every point that has a label, whether some frame sees it
    or not, and by one look at each scene. Nothing is drawn at random. Several processes share the
    scenes.
    """

    def __init__(
        self,
        workspace: Workspace,
        words: RunWords,
        protocol: Protocol,
        scenes: Sequence[str],
        *,
        kind: str,
        voxel_size: float,
        device: torch.device,
    ) -> None:
        """Take those scenes that have labels.

        Args:
            workspace: of the run.
            words: classes of the run, and their embeddings.
            protocol: of the run.
            scenes: names of stored validation scenes.
            kind: what the student sees of a voxel, as `distill.input`.
            voxel_size: metres.
            device: where to compute.

        Raises:
            TrainingError: no scene has labels.
        """
        opened = ((name, open_stored_scene(workspace.scene(name))) for name in scenes)
        self._scenes = tuple(name for name, scene in opened if scene.labels is not None)
        if not self._scenes:
            raise TrainingError(
                f"distill.validate_every: none of the {len(scenes)} validation scenes that are "
                "stored has labels, expected some to compare with; set it to 0"
            )
        self._workspace = workspace
        self._words = words
        self._protocol = replace(protocol, points="all", votes=1)
        self._kind = kind
        self._voxel_size = voxel_size
        self._device = device

    def measure(self, network: nn.Module) -> SemanticResult:
        """Label all scenes and compare; called by all processes, and the same in all.

        Args:
            network: the student; it is put into evaluation mode.
        """
        ranks, names = current_ranks(), self._words.label_set.names
        counts = torch.zeros(len(self._scenes), len(names) + 1, len(names), dtype=torch.int64)
        for number in range(ranks.rank, len(self._scenes), ranks.world):
            counts[number] = self._count(network, self._scenes[number])
        return score_counts(iter(ranks.add(counts)), names, self._protocol)

    def _count(self, network: nn.Module, name: str) -> torch.Tensor:
        """(K + 1, K) int64, points of a scene by predicted and true category."""
        scene = open_stored_scene(self._workspace.scene(name))
        cloud = load_student_input(self._workspace, name, self._kind)
        features = infer_point_features(network, cloud, self._voxel_size, self._device)  # (N, D)
        seen = torch.ones(len(features), dtype=torch.bool)
        counted = ConfusionMatrix(len(self._words.label_set.names))
        if scene.labels is not None:
            truth = labels_in_memory(self._words.label_set, scene, scene.labels)
            counted.update(self._words.classify(features, seen), truth)
        return counted.counts
