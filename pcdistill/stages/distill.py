"""Stage distill: 3D students that learn the fused 2D features from the points alone."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from pcdistill.artifacts import (
    append_metrics,
    estimate_sizes,
    load_student_input,
    load_training_state,
    open_training_scenes,
    split_scenes,
    trim_metrics,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.distillation import (
    INPUT_CHANNELS,
    EpochResult,
    Trainer,
    current_ranks,
    infer_point_features,
    mixed_seed,
)
from pcdistill.errors import TrainingError
from pcdistill.networks import MinkUNet, build_student, save_checkpoint
from pcdistill.pipeline import (
    PRETRAINED,
    TERMINATED,
    Dependency,
    DistillConfig,
    RunContext,
    Stage,
    StudentInputSpec,
    Task,
    Workspace,
    copy_checkpoint,
    noted_sigterm,
    read_provenance,
    resolve_checkpoint,
    write_tensors,
)

_LOG = logging.getLogger(__name__)

ENSEMBLE = "superpoint+ensemble"
BASE = "superpoint"
"""The ensemble goes on from where this student was when the ensemble joins."""
_MIN_SPREAD = 1e-4
"""Length of the difference of two unit features below which they are the same."""
_STATE_EVERY = 15.0
"""Seconds between half-way states, written when an epoch ends."""
_STATE_WITHIN_EPOCH = 600.0
"""Seconds after which one is written within an epoch."""


class DistillStage(Stage):
    """A unit is a student."""

    name = "distill"
    version = 3

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.distill
        self._seed = run.config.run.seed
        self._teachers = run.config.run.teachers
        self._words = run.words
        self._training = split_scenes(run).training
        self._sizes = estimate_sizes(run)
        self._pretrained = run.pretrained
        self._find_device: Callable[[], torch.device] = lambda: run.device

    def units(self) -> tuple[str, ...]:
        """The students, those that others go on from first."""
        order = ("point", BASE, ENSEMBLE, PRETRAINED)
        return tuple(name for name in order if name in self._config.student_names)

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The given student's file, or everything that a training depends on."""
        given = self._config.pretrained
        if given is not None:
            fallback = StudentInputSpec(self._config.voxel_size, self._config.input)
            source = resolve_checkpoint(given, self._workspace)
            return {"student": unit, "file": source.checksum, **fallback._asdict()}
        config = vars(self._config).copy()
        del config["students"], config["pretrained"], config["device"], config["workers"]
        for key in [key for key in config if key.startswith("ensemble_")]:
            del config[key]
        del config["keep_superpoint_loss"]
        settings: dict[str, Any] = {**config, "student": unit, "seed": self._seed}
        if unit == ENSEMBLE:
            resolved = vars(self._config.ensemble)
            settings |= {f"ensemble_{key}": value for key, value in resolved.items()}
            settings["label_set"] = self._words.training_prompts
            mapping = self._words.label_set.mapping
            settings["classes"] = None if mapping is None else mapping.tolist()
        elif unit == BASE and self._hands_over:
            settings["hand_over"] = self._config.ensemble_epoch
        return settings

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """Fused features of the training scenes, and the student that it goes on from."""
        if unit == PRETRAINED:
            return ()
        scenes = tuple(Dependency("fuse", scene, required=False) for scene in self._training)
        if unit == ENSEMBLE and self._hands_over:
            return (*scenes, Dependency("distill", BASE))
        return scenes

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The checkpoint, the metrics of each epoch, and what is handed over."""
        checkpoint = self._workspace.checkpoint(unit)
        if unit == PRETRAINED:
            return (checkpoint,)
        handed = (self._hand_over_path,) if unit == BASE and self._hands_over else ()
        return (checkpoint, self._workspace.student(unit) / "metrics.jsonl", *handed)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Train a student, or keep a copy of the given one, so that the workspace stands alone.

        Raises:
            ArtifactError: features per point are asked for but were not stored.
            TrainingError: the loss is not finite, or the student tells no points apart.
        """
        if self._pretrained is None:
            return self._train(task, report)
        student, given = self._pretrained, str(self._config.pretrained)
        known = {"student": PRETRAINED, "text_space": self._words.text_encoder.text_space}
        copy_checkpoint(student, given, self._workspace, known)
        return (
            f"{student.network.architecture.name} of {student.source.path}, voxels of "
            f"{student.needs.voxel_size:g} m, input {student.needs.input}, prompt "
            f"'{self._words.prompt}'"
        )

    def estimate(self, unit: str) -> int:
        """Bytes while it learns: weights, thrice as many half-way, and the ensemble's scores."""
        if self._pretrained is not None:
            state = self._pretrained.network.state_dict()
            return sum(values.nbytes for values in state.values())
        with torch.device("meta"):
            weights = self._new_network().state_dict().values()
        size = int(sum(values.nbytes for values in weights))
        scores = 0
        if unit == ENSEMBLE:
            points = sum(self._sizes.points(scene) for scene in self._training)
            scores = 2 * 4 * points * len(self._words.training_prompts)  # in two slots
        hand_over = 3 * size if self._hand_over_path in self.outputs(unit) else 0
        return size + 3 * size + scores + hand_over

    def parallel(self) -> bool:
        """Small students are quicker side by side than one after the other; a GPU is not shared."""
        return self._find_device().type == "cpu"

    @property
    def _hands_over(self) -> bool:
        students = self._config.student_names
        return BASE in students and ENSEMBLE in students

    @property
    def _hand_over_path(self) -> Path:
        return self._workspace.student(BASE) / "hand_over.safetensors"

    def _new_network(self) -> MinkUNet:
        """A student that has not learned yet; its weights are drawn from torch's generator."""
        config = self._config
        return build_student(
            config.architecture,
            INPUT_CHANNELS[config.input],
            self._words.text_encoder.dimensions,
            width=config.width,
            engine=config.engine,
        )

    def _history_path(self, student: str) -> Path:
        """File of the temporal ensemble's histories while the student learns."""
        return self._workspace.student(student) / "histories.f32"

    def _scratch(self, student: str) -> Path:
        """Folder for what is estimated once of a scene while the student learns."""
        return self._workspace.student(student) / "normals"

    def _new_trainer(self, student: str, scenes: Sequence[str]) -> tuple[MinkUNet, Trainer]:
        per_point, kind = student == "point", self._config.input
        training = open_training_scenes(
            self._workspace, scenes, kind, per_point=per_point, scratch=self._scratch(student)
        )
        torch.manual_seed(mixed_seed(self._seed))  # the network's initial weights
        network = self._new_network()
        trainer = Trainer(
            network,
            training,
            self._words.training_embeddings,
            self._config,
            self._find_device(),
            target="point" if per_point else "superpoint",
            ensemble=student == ENSEMBLE,
            seed=self._seed,
            class_of_prompt=self._words.label_set.mapping,
            ranks=current_ranks(),
            history_path=self._history_path(student) if student == ENSEMBLE else None,
        )
        return network, trainer

    def _train(self, task: Task, report: ProgressCallback) -> str:
        student, scenes, config = task.unit, task.units_of("fuse"), self._config
        folder = self._workspace.student(student)
        folder.mkdir(parents=True, exist_ok=True)
        state_path, metrics = folder / "state.safetensors", folder / "metrics.jsonl"
        network, trainer = self._new_trainer(student, scenes)
        self._resume(task, trainer, state_path, metrics)
        result = self._learn(task, trainer, state_path, metrics, report)
        if not current_ranks().is_first:
            return ""
        device, provenance = self._find_device(), self._provenance(task)
        with trainer.answering():
            _require_contrast(network, student, scenes[0], self._workspace, config, device)
            save_checkpoint(self._workspace.checkpoint(student), network, provenance)
        state_path.unlink(missing_ok=True)
        self._history_path(student).unlink(missing_ok=True)
        shutil.rmtree(self._scratch(student), ignore_errors=True)
        parameters = sum(p.numel() for p in network.parameters())
        last = f", loss {result.loss:.3f}" if result is not None else ""
        return (
            f"{config.architecture} with {parameters / 1e6:.1f} M parameters, "
            f"{len(scenes)} scenes, {trainer.epoch} epochs{last}"
        )

    def _learn(
        self,
        task: Task,
        trainer: Trainer,
        state_path: Path,
        metrics: Path,
        report: ProgressCallback,
    ) -> EpochResult | None:
        """Train to the end; returns what the last epoch gave, None where none was left.

        Of several processes the first writes. After SIGTERM the state is written at the next step,
        and the process ends.

        Raises:
            TrainingError: the loss is not finite.
            SystemExit: SIGTERM came.
        """
        student, ranks, epochs = task.unit, current_ranks(), self._config.epochs
        hands_over = self._hand_over_path in self.outputs(student)
        saved, result = time.monotonic(), None

        def save(path: Path) -> None:
            state = trainer.state()
            if ranks.is_first:
                write_tensors(path, state, {"task": task.fingerprint})

        def pause() -> bool:
            return stop.came or (ranks.is_first and time.monotonic() - saved > _STATE_WITHIN_EPOCH)

        with noted_sigterm() as stop:
            while not trainer.finished:
                outcome = trainer.train_epoch(pause)
                if outcome is not None:
                    result = outcome
                    _require_finite_loss(student, result)
                    if ranks.is_first:
                        append_metrics(metrics, result._asdict())
                    report(result.epoch, epochs, f"epochs, loss {result.loss:.3f}")
                    if hands_over and result.epoch == self._config.ensemble_epoch:
                        save(self._hand_over_path)
                ends = ranks.any(stop.came)
                late = ranks.any(ranks.is_first and time.monotonic() - saved > _STATE_EVERY)
                if ends or ((late or outcome is None) and not trainer.finished):
                    save(state_path)
                    trainer.confirm_state()
                    saved = time.monotonic()
                if ends:
                    if ranks.is_first:
                        _LOG.warning(
                            "student %s: SIGTERM came after %d of %d epochs; the same command goes "
                            "on from there",
                            *(student, trainer.epoch, epochs),
                        )
                    raise SystemExit(TERMINATED)
        return result

    def _resume(self, task: Task, trainer: Trainer, state_path: Path, metrics: Path) -> None:
        """Load the half-way state of the same task, or where the base student hands over."""
        required = trainer.required_shapes()
        state = load_training_state(state_path, task.fingerprint, required)
        if state is not None and not trainer.has_histories_of(state):
            _LOG.warning(
                "%s: its histories, %s, are missing or of another training; it is not gone on from",
                state_path,
                self._history_path(task.unit).name,
            )
            state = None
        goes_on = task.unit == ENSEMBLE and self._hands_over
        if state is None and goes_on:
            base = task.marks.get(f"distill {BASE}", task.fingerprint)
            state = load_training_state(self._hand_over_path, base, required)
            if state is None or int(state["epoch"]) != self._config.ensemble_epoch:
                state = None  # it gives the same student, only later
                _LOG.warning(
                    "%s: is not what student %s of this run hands over; %s learns from the start",
                    self._hand_over_path,
                    BASE,
                    ENSEMBLE,
                )
        if state is not None:
            trainer.load_state(state)
        current_ranks().require_same(trainer.epoch, str(state_path))
        if not current_ranks().is_first:
            return
        earlier = self._workspace.student(BASE) / "metrics.jsonl"
        trim_metrics(metrics, trainer.epoch, earlier if task.unit == ENSEMBLE else None)

    def _provenance(self, task: Task) -> dict[str, Any]:
        fused = read_provenance(self._workspace.fused(task.units_of("fuse")[0]))
        return {
            "student": task.unit,
            "text_space": self._words.text_encoder.text_space,
            "prompt": self._words.prompt,
            "teachers": list(self._teachers),
            "weights": fused.get("weights", {}),
            "vocabulary": list(self._words.vocabulary),
            "scenes": list(task.units_of("fuse")),
            "config": dict(vars(self._config)),
            "task": task.fingerprint,
        }


def _require_finite_loss(student: str, result: EpochResult) -> None:
    """Refuse to go on after a step that left no numbers.

    Raises:
        TrainingError: a loss is not finite.
    """
    losses = (result.loss, result.ensemble_loss)
    if not all(math.isfinite(loss) for loss in losses):
        raise TrainingError(
            f"student {student}: the loss is {losses[0]:.3g} + {losses[1]:.3g} after epoch "
            f"{result.epoch}, expected finite numbers; lower distill.learning_rate "
            f"(it was {result.learning_rate:.2g})"
        )


def _require_contrast(
    network: MinkUNet,
    student: str,
    scene: str,
    workspace: Workspace,
    config: DistillConfig,
    device: torch.device,
) -> None:
    """Refuse a student that says the same of every point.

    Raises:
        TrainingError: the features of the scene are alike, or not finite.
    """
    cloud = load_student_input(workspace, scene, config.input)
    features = infer_point_features(network, cloud, config.voxel_size, device)  # (N, D)
    directions = functional.normalize(features, dim=1)
    spread = float((directions - directions[:1]).norm(dim=1).max())
    if not spread > _MIN_SPREAD:
        raise TrainingError(
            f"student {student}: its features are the same for all {len(features)} points of "
            f"scene {scene}, expected some that differ; change distill.learning_rate or train for "
            "more epochs"
        )
