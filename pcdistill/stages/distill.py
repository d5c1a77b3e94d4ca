"""Stage distill: 3D students that learn the fused 2D features from the points alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pcdistill.artifacts import (
    TrainingLog,
    estimate_sizes,
    load_student_input,
    open_training_scenes,
    split_scenes,
    training_seconds,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.distillation import (
    INPUT_CHANNELS,
    BestWeights,
    Trainer,
    current_ranks,
    mixed_seed,
)
from pcdistill.inference import StudentValidation, require_contrast
from pcdistill.networks import MinkUNet, build_student, save_checkpoint
from pcdistill.pipeline import (
    PRETRAINED,
    Dependency,
    RunContext,
    Stage,
    StudentInputSpec,
    Task,
    copy_checkpoint,
    read_provenance,
    resolve_checkpoint,
)
from pcdistill.reporting import CardFacts, write_run_card
from pcdistill.training import HandOver, StudentTraining

ENSEMBLE = "superpoint+ensemble"
BASE = "superpoint"
"""The ensemble goes on from where this student was when the ensemble joins."""


class DistillStage(Stage):
    """A unit is a student."""

    name = "distill"
    version = 3
    memory_advice = "raise distill.accumulate, or lower distill.max_voxels_per_step"

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._config = run.config.distill
        self._seed = run.config.run.seed
        self._teachers = run.config.run.teachers
        self._words = run.words
        self._title = run.config.run.title
        self._protocol = run.protocol
        split = split_scenes(run)
        self._training, self._validation = split.training, split.validation
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
        for key in ("students", "pretrained", "device", "workers", "log", "tensorboard"):
            del config[key]
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
        if self._config.validate_every:
            settings["validated_on"] = self._words.label_set.facts(), self._words.label_prompts
        return settings

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """Fused features of the training scenes, and the student that it goes on from."""
        if unit == PRETRAINED:
            return ()
        scenes = tuple(Dependency("fuse", scene, required=False) for scene in self._training)
        if self._config.validate_every:
            validated = (Dependency("ingest", name, required=False) for name in self._validation)
            scenes = (*scenes, *validated)
        if unit == ENSEMBLE and self._hands_over:
            return (*scenes, Dependency("distill", BASE))
        return scenes

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The checkpoint, the metrics of each epoch, and what is handed over."""
        checkpoint = self._workspace.checkpoint(unit)
        if unit == PRETRAINED:
            return (checkpoint,)
        folder = self._workspace.student(unit)
        others = (self._hand_over_path,) if unit == BASE and self._hands_over else ()
        if self._config.validate_every:
            others = (folder / f"{self._other_weights}.safetensors", *others)
        return (checkpoint, folder / "metrics.jsonl", folder / "card.md", *others)

    @property
    def _other_weights(self) -> str:
        """Those, of the best and the last ones, that do not answer."""
        return "last" if self._config.answer == "best" else "best"

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
            whole = self._config.ensemble.point_labels == "superpoint"
            rows_of = self._sizes.superpoints if whole else self._sizes.points
            rows = sum(rows_of(scene) for scene in self._training)
            scores = 2 * 4 * rows * len(self._words.training_prompts)  # in two slots
        hand_over = 3 * size if self._hand_over_path in self.outputs(unit) else 0
        average = size if self._config.ema_decay else 0
        best = 2 * size if self._config.validate_every else 0  # half-way and at the end
        return size + 3 * size + scores + hand_over + average + best

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

    def _hand_over(self, task: Task) -> HandOver | None:
        """What the base student gives to that of the ensemble, where there are both."""
        if not self._hands_over:
            return None
        mark = task.marks.get(f"distill {BASE}", task.fingerprint)
        return HandOver(self._hand_over_path, self._config.ensemble_epoch, BASE, mark)

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
        ranks = current_ranks()
        log = TrainingLog(
            folder,
            steps=config.log == "step",
            tensorboard=config.tensorboard,
            writes=ranks.is_first,
        )
        network, trainer = self._new_trainer(student, scenes)
        training = StudentTraining(
            student,
            trainer,
            log,
            self._new_validation(task),
            folder=folder,
            task=task.fingerprint,
            epochs=config.epochs,
            validate_every=config.validate_every,
            gives=self._hand_over(task) if student == BASE else None,
            takes=self._hand_over(task) if student == ENSEMBLE else None,
        )
        training.resume()
        try:
            result = training.run(report)
        finally:
            log.close()
        if not ranks.is_first:
            return ""
        with trainer.answering():
            measured = self._write_weights(task, network, training.best)
        training.remove_state()
        self._history_path(student).unlink(missing_ok=True)
        shutil.rmtree(self._scratch(student), ignore_errors=True)
        parameters = sum(p.numel() for p in network.parameters())
        self._write_card(task, parameters, log, measured)
        last = f", loss {result.loss:.3f}" if result is not None else ""
        return (
            f"{config.architecture} with {parameters / 1e6:.1f} M parameters, "
            f"{len(scenes)} scenes, {trainer.epoch} epochs{last}"
        )

    def _new_validation(self, task: Task) -> StudentValidation | None:
        if not self._config.validate_every:
            return None
        return StudentValidation(
            self._workspace,
            self._words,
            self._protocol,
            task.units_of("ingest"),
            kind=self._config.input,
            voxel_size=self._config.voxel_size,
            device=self._find_device(),
        )

    def _write_weights(self, task: Task, network: MinkUNet, best: BestWeights) -> dict[str, Any]:
        """Write the weights that answer and, where there are any, the others.

        Args:
            task: of the student.
            network: with the last weights.
            best: those that were measured best, where something was measured.

        Returns:
            what was measured of the best ones.

        Raises:
            TrainingError: those that answer tell no points apart.
        """
        student, provenance = task.unit, self._provenance(task)
        checkpoint, scene = self._workspace.checkpoint(student), task.units_of("fuse")[0]
        other = self._workspace.student(student) / f"{self._other_weights}.safetensors"
        measured: dict[str, Any] = {}
        if best.weights:
            measured = {"best epoch": best.epoch, "best validation mIoU, %": best.miou}
            answers_best = self._config.answer == "best"
            last = {key: value.clone() for key, value in network.state_dict().items()}
            network.load_state_dict(last if answers_best else best.weights)
            save_checkpoint(other, network, provenance if answers_best else provenance | measured)
            network.load_state_dict(best.weights if answers_best else last)
            provenance |= measured if answers_best else {}
        cloud = load_student_input(self._workspace, scene, self._config.input)
        size = self._config.voxel_size
        require_contrast(network, student, scene, cloud, size, self._find_device())
        save_checkpoint(checkpoint, network, provenance)
        return measured

    def _write_card(
        self, task: Task, parameters: int, log: TrainingLog, measured: Mapping[str, Any]
    ) -> None:
        """Write what the student was made of, beside it."""
        fused = read_provenance(self._workspace.fused(task.units_of("fuse")[0]))
        known = fused.get("weights", {})
        last = log.last_epoch()
        scenes, validated = task.units_of("fuse"), task.units_of("ingest")
        facts = CardFacts(
            student=task.unit,
            title=self._title,
            data={
                "scenes learned from": len(scenes),
                "points": sum(self._sizes.points(name) for name in scenes),
                "scenes validated on": len(validated),
                "names": scenes,
                "text space": self._words.text_encoder.text_space,
            },
            teachers={name: known.get(name, {}) for name in self._teachers},
            settings=vars(self._config),
            seed=self._seed,
            numbers={"parameters": parameters, **last, **measured, "answers": self._config.answer},
            device=self._find_device(),
            seconds=training_seconds(log.metrics),
        )
        write_run_card(self._workspace.student(task.unit) / "card.md", facts)

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
