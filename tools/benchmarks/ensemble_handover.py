"""The student where the temporal ensemble joins, and how right its labels and the targets' are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.artifacts import (
    RunArtifacts,
    labels_in_memory,
    load_student_input,
    load_training_scene,
)
from pcdistill.distillation import (
    INPUT_CHANNELS,
    StudentInput,
    Trainer,
    infer_point_features,
    mixed_seed,
)
from pcdistill.distillation.student_features import forward_batch
from pcdistill.evaluation import ConfusionMatrix, confusion_cells
from pcdistill.geometry import superpoint_mean
from pcdistill.inference import open_run
from pcdistill.labels import IGNORE_LABEL
from pcdistill.networks import MinkUNet, build_student
from pcdistill.pipeline import DistillConfig, read_tensors, write_tensors
from pcdistill.pipeline.config_loading import load_workspace_config
from pcdistill.scenes import open_scene

from .ensemble_settings import PAPER, TARGETS
from .ensemble_training import CPU, KeptBatches, LabelLoss, Texts, cosine_loss

TEMPERATURES = {False: (1.0, 3.0, 10.0, 30.0), True: (1.0, 0.3, 0.1, 0.04)}
"""Of the gradients that are measured, for raw outputs and for those of length 1."""
GRADIENT_SCENES = 6
"""Training homes over which gradients are averaged."""


class Study:
    """A seed's homes, its student, and what can be measured of it."""

    def __init__(self, workspace: Path) -> None:
        self.run: RunArtifacts = open_run(workspace).artifacts
        self.config: DistillConfig = load_workspace_config(workspace).distill
        self.seed = self.run.seed
        self._folder = workspace
        self.scenes = [
            load_training_scene(
                self.run.workspace,
                name,
                self.config.input,
                per_point=False,
                scratch=workspace / "normals",
            )
            for name in self.run.scenes.training
        ]
        self.batches = KeptBatches(self.scenes, self.config, self.seed)
        words = self.run.words
        self.texts = Texts(words.training_embeddings, words.vocabulary_embeddings)

    def network(self) -> MinkUNet:
        """A student with its first weights."""
        config = self.config
        torch.manual_seed(mixed_seed(self.seed))
        return build_student(
            config.architecture,
            INPUT_CHANNELS[config.input],
            self.run.words.text_encoder.dimensions,
            width=config.width,
            engine=config.engine,
        )

    def hand_over(self, epochs: int) -> dict[str, Tensor]:
        """State of the training so many epochs before its end; trained where it is missing."""
        path = self._folder / f"hand_over_{epochs}.safetensors"
        if not path.exists():
            self._train(epochs, path)
        return read_tensors(path)

    def _train(self, epochs: int, path: Path) -> None:
        going = self._folder / "training.safetensors"
        trainer = Trainer(
            self.network(),
            self.scenes,
            self.texts.label_set,
            self.config,
            CPU,
            seed=self.seed,
        )
        last = self.config.epochs - epochs
        if going.exists() and int(read_tensors(going)["epoch"]) <= last:
            trainer.load_state(read_tensors(going))
        while trainer.epoch < last:
            trainer.train_epoch()
            if trainer.epoch % 8 == 0:
                write_tensors(going, trainer.state(), {})
        write_tensors(path, trainer.state(), {})

    @cached_property
    def _validation(self) -> list[tuple[str, StudentInput, Tensor]]:
        """Name, input and true labels (N,) of every validation home."""
        workspace, kind = self.run.workspace, self.config.input
        return [
            (name, load_student_input(workspace, name, kind), self.truth(name))
            for name in self.run.scenes.validation
        ]

    def truth(self, name: str) -> Tensor:
        """(N,) int64 true labels of the points that some frame sees, `IGNORE_LABEL` elsewhere."""
        scene = open_scene(self.run.workspace.scene(name))
        if scene.labels is None:
            raise ValueError(f"home {name} has no labels")
        truth = labels_in_memory(self.run.words.label_set, scene, scene.labels)
        return torch.where(self.run.point_features.seen_mask(name), truth, IGNORE_LABEL)

    def measure(self, network: nn.Module) -> dict[str, Any]:
        """Confusion of every validation home, zero-shot, one cut."""
        found = {}
        for name, cloud, truth in self._validation:
            features = infer_point_features(network, cloud, self.config.voxel_size, CPU)
            everywhere = torch.ones(len(features), dtype=torch.bool)
            counted = ConfusionMatrix(len(self.run.words.label_set.names))
            counted.update(self.run.words.classify(features, everywhere), truth)
            found[name] = confusion_cells(counted.counts)
        return {"confusion": found}

    def describe(self) -> dict[str, Any]:
        """What the hand-over is like: its labels, what they say outside, and its gradients."""
        network = self.network()
        network.load_state_dict(_weights(self.hand_over(PAPER.epochs)))
        found: dict[str, Any] = {"hand_over": self.measure(network)["confusion"]}
        names = self.run.words.label_set.names
        counted = {key: ConfusionMatrix(len(names)) for key in ("point", "superpoint", "targets")}
        outside = {key: torch.zeros(len(names), dtype=torch.int64) for key in counted}
        points, agreeing, lengths = 0, [0, 0], []
        for scene in self.scenes:
            cloud = StudentInput(scene.points, scene.normals, scene.colors)
            features = infer_point_features(network, cloud, self.config.voxel_size, CPU)
            ids, count = scene.superpoint_ids, len(scene.superpoint_means)
            text = self.texts.label_set
            lengths.append(float(features[scene.seen].norm(dim=1).mean()))
            scores = features @ text.T  # (N, K)
            said = {
                "point": scores.argmax(1),
                "superpoint": superpoint_mean(scores, ids, count).argmax(1)[ids],
                "targets": (scene.superpoint_means.float() @ text.T).argmax(1)[ids],
            }
            truth = self.truth(scene.name)
            ignored = (truth == IGNORE_LABEL) & scene.seen
            points += int(scene.seen.sum())
            for key, labels in said.items():
                counted[key].update(labels, truth)
                outside[key] += torch.bincount(labels[ignored], minlength=len(names))
            for place, key in enumerate(("point", "superpoint")):
                agreeing[place] += int((said[key] == said["targets"])[scene.seen].sum())
        found["training"] = {k: confusion_cells(c.counts) for k, c in counted.items()}
        found["outside"] = {key: values.tolist() for key, values in outside.items()}
        found["seen_points"] = points
        found["agreeing"] = [value / points for value in agreeing]
        found["length"] = sum(lengths) / len(lengths)
        found["gradients"] = self._gradients(network)
        return found

    def _gradients(self, network: nn.Module) -> list[dict[str, Any]]:
        """Mean over homes of the sizes of gradients, those of the cosine losses first."""
        scenes = self.scenes[:GRADIENT_SCENES]
        kinds = [
            (name, replace(base, unit=unit, temperature=heat))
            for name, base in (("student", PAPER), ("targets", TARGETS))
            for unit, heats in TEMPERATURES.items()
            for heat in heats
        ]
        losses = [LabelLoss(kind, self.texts.label_set, scenes) for _, kind in kinds]
        for loss in losses:
            loss.begin(network, scenes, self.config.voxel_size)
        rows = [{"labels": "cosine losses"}] + [
            {"labels": name, "unit": kind.unit, "temperature": kind.temperature}
            for name, kind in kinds
        ]
        sums = torch.zeros(len(rows), 3, dtype=torch.float64)
        for number, scene in enumerate(scenes):
            learner = copy.deepcopy(network).train()
            generator = torch.Generator().manual_seed(mixed_seed(self.seed, number))
            batch = self.batches.sample(number, self.config.epochs - PAPER.epochs, generator)
            output = forward_batch(learner, batch).float()  # (V, D)
            used = scene.seen[batch.representative[0]].nonzero()[:, 0]
            values = [cosine_loss(scene, output, batch, used)]
            values += [loss(scene, output, batch, used) for loss in losses]
            parameters = list(learner.parameters())
            first: Tensor | None = None
            for row, value in enumerate(values):
                of_output, *of_weights = torch.autograd.grad(
                    value, [output, *parameters], retain_graph=True
                )
                flat = torch.cat([part.flatten() for part in of_weights])
                first = flat if first is None else first
                angle = functional.cosine_similarity(flat, first, dim=0)
                sums[row] += torch.tensor([of_output.norm(), flat.norm(), angle]).double()
        means = (sums / len(scenes)).tolist()
        return [
            {**row, "output": mean[0], "weights": mean[1], "cosine": mean[2]}
            for row, mean in zip(rows, means, strict=True)
        ]


def _weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("model/"): v for k, v in state.items() if k.startswith("model/")}
