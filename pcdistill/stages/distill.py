"""Stage distill: fused 2D features become a 3D student that needs only the points."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.artifacts import (
    estimate_points,
    load_fused_targets,
    load_student_input,
    load_superpoint_ids,
    training_scenes,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.distillation import (
    INPUT_CHANNELS,
    EpochResult,
    Trainer,
    TrainingScene,
    infer_point_features,
    mixed_seed,
)
from pcdistill.errors import ArtifactError, TrainingError
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
    read_tensors,
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
"""Seconds between half-way states."""


def _hand_over_path(run: RunContext) -> Path:
    return run.workspace.student(BASE) / "hand_over.safetensors"


def _hands_over(run: RunContext) -> bool:
    students = run.config.distill.student_names
    return BASE in students and ENSEMBLE in students


def _units(run: RunContext) -> tuple[str, ...]:
    order = ("point", BASE, ENSEMBLE, PRETRAINED)
    return tuple(name for name in order if name in run.config.distill.student_names)


def _settings(run: RunContext, student: str) -> Mapping[str, Any]:
    given = run.config.distill.pretrained
    if given is not None:
        fallback = StudentInputSpec(run.config.distill.voxel_size, run.config.distill.input)
        source = resolve_checkpoint(given, run.workspace)
        return {"student": student, "file": source.checksum, **fallback._asdict()}
    config = vars(run.config.distill).copy()
    del config["students"], config["pretrained"], config["device"]
    ensemble = {key: config.pop(key) for key in list(config) if key.startswith("ensemble_")}
    config.pop("keep_superpoint_loss")
    settings: dict[str, Any] = {**config, "student": student, "seed": run.config.run.seed}
    if student == ENSEMBLE:
        settings |= ensemble
        settings["keep_superpoint_loss"] = run.config.distill.keep_superpoint_loss
        settings["label_set"] = run.training_prompts
        mapping = run.label_set.mapping
        settings["classes"] = None if mapping is None else mapping.tolist()
    elif student == BASE and _hands_over(run):
        settings["hand_over"] = run.config.distill.ensemble_epoch
    return settings


def _inputs(run: RunContext, student: str) -> tuple[Dependency, ...]:
    if student == PRETRAINED:
        return ()
    scenes = tuple(Dependency("fuse", scene, required=False) for scene in training_scenes(run))
    if student == ENSEMBLE and _hands_over(run):
        return (*scenes, Dependency("distill", BASE))
    return scenes


def _outputs(run: RunContext, student: str) -> tuple[Path, ...]:
    if student == PRETRAINED:
        return (run.workspace.checkpoint(student),)
    folder = run.workspace.student(student)
    files = (run.workspace.checkpoint(student), folder / "metrics.jsonl")
    if student == BASE and _hands_over(run):
        return (*files, _hand_over_path(run))
    return files


def training_scene(run: RunContext, scene: str, *, per_point: bool) -> TrainingScene:
    """Read what the student learns from in one scene.

    Raises:
        ArtifactError: point-wise features are asked for but were not kept.
    """
    targets = load_fused_targets(run, scene)
    cloud = load_student_input(run, scene, run.config.distill.input)
    seen = torch.zeros(len(cloud.points), dtype=torch.bool)
    seen[targets.seen] = True
    features = None
    if per_point:
        if targets.features is None:
            raise ArtifactError(
                f"{run.workspace.fused(scene)} has no features per point; the student 'point' "
                "needs fuse.store_point_features: true"
            )
        features = torch.zeros(len(cloud.points), targets.features.shape[1], dtype=torch.float16)
        features[targets.seen] = targets.features
    ids = load_superpoint_ids(run, scene)
    return TrainingScene(
        name=scene,
        points=cloud.points,
        superpoint_ids=ids,
        superpoint_means=targets.superpoint_means,
        seen=seen,
        features=features,
        normals=cloud.normals,
        colors=cloud.colors,
    )


def _network(run: RunContext) -> MinkUNet:
    """A student that has not learned yet; its weights are drawn from torch's generator."""
    config = run.config.distill
    return build_student(
        config.architecture,
        INPUT_CHANNELS[config.input],
        run.text_encoder.dimensions,
        width=config.width,
        engine=config.engine,
    )


def _trainer(run: RunContext, task: Task) -> tuple[MinkUNet, Trainer]:
    seed, student = run.config.run.seed, task.unit
    scenes = [
        training_scene(run, scene, per_point=student == "point") for scene in task.units_of("fuse")
    ]
    torch.manual_seed(mixed_seed(seed))  # the network's initial weights
    network = _network(run)
    trainer = Trainer(
        network,
        scenes,
        run.text_encoder.encode(run.training_prompts),
        run.config.distill,
        run.device,
        target="point" if student == "point" else "superpoint",
        ensemble=student == ENSEMBLE,
        seed=seed,
        class_of_prompt=run.label_set.mapping,
    )
    return network, trainer


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    return _use_pretrained(run) if run.pretrained is not None else _train(run, task, report)


def _use_pretrained(run: RunContext) -> str:
    """Keep a copy of the given student, so that the workspace stands alone."""
    student, given = run.pretrained, run.config.distill.pretrained
    if student is None or given is None:
        raise ValueError("the run was given no student")
    known = {"student": PRETRAINED, "text_space": run.text_encoder.text_space}
    copy_checkpoint(student, given, run.workspace, known)
    sizes = student.network.architecture
    return (
        f"{sizes.name} of {student.source.path}, voxels of {student.needs.voxel_size:g} m, "
        f"input {student.needs.input}, prompt '{run.prompt}'"
    )


def _train(run: RunContext, task: Task, report: ProgressCallback) -> str:
    student = task.unit
    folder = run.workspace.student(student)
    folder.mkdir(parents=True, exist_ok=True)
    state_path, metrics = folder / "state.safetensors", folder / "metrics.jsonl"
    network, trainer = _trainer(run, task)
    _resume(run, task, trainer, state_path, metrics)
    saved = time.monotonic()
    result = None
    while not trainer.finished:
        result = trainer.train_epoch()
        _require_finite_loss(student, result)
        _append(metrics, result)
        report(result.epoch, run.config.distill.epochs, f"epochs, loss {result.loss:.3f}")
        if (
            _hand_over_path(run) in _outputs(run, student)
            and result.epoch == run.config.distill.ensemble_epoch
        ):
            write_tensors(_hand_over_path(run), trainer.state(), {"task": task.fingerprint})
        if time.monotonic() - saved > _STATE_EVERY and not trainer.finished:
            write_tensors(state_path, trainer.state(), {"task": task.fingerprint})
            saved = time.monotonic()
    _require_contrast(run, task, network)
    save_checkpoint(run.workspace.checkpoint(student), network, _provenance(run, task))
    state_path.unlink(missing_ok=True)
    parameters = sum(p.numel() for p in network.parameters())
    last = f", loss {result.loss:.3f}" if result is not None else ""
    scenes = len(task.units_of("fuse"))
    return (
        f"{run.config.distill.architecture} with {parameters / 1e6:.1f} M parameters, "
        f"{scenes} scenes, {trainer.epoch} epochs{last}"
    )


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


def _require_contrast(run: RunContext, task: Task, network: MinkUNet) -> None:
    """Refuse a student that says the same of every point.

    Raises:
        TrainingError: the features of the first training scene are alike, or not finite.
    """
    config, scene = run.config.distill, task.units_of("fuse")[0]
    cloud = load_student_input(run, scene, config.input)
    features = infer_point_features(network, cloud, config.voxel_size, run.device)
    directions = functional.normalize(features, dim=1)
    spread = float((directions - directions[:1]).norm(dim=1).max())
    if not spread > _MIN_SPREAD:
        raise TrainingError(
            f"student {task.unit}: its features are the same for all {len(features)} points of "
            f"scene {scene}, expected some that differ; change distill.learning_rate or train for "
            "more epochs"
        )


def _resume(run: RunContext, task: Task, trainer: Trainer, state_path: Path, metrics: Path) -> None:
    """Load the half-way state of the same task, or where the base student hands over."""
    state = _half_way(state_path, task.fingerprint, trainer)
    if state is None and task.unit == ENSEMBLE and _hands_over(run):
        base = task.marks.get(f"distill {BASE}", task.fingerprint)
        state = _half_way(_hand_over_path(run), base, trainer)
        if state is None or int(state["epoch"]) != run.config.distill.ensemble_epoch:
            state = None  # it gives the same student, only later
            _LOG.warning(
                "%s: is not what student %s of this run hands over; %s learns from the start",
                _hand_over_path(run),
                BASE,
                ENSEMBLE,
            )
    if state is not None:
        trainer.load_state(state)
    kept = metrics.read_text().splitlines()[: trainer.epoch] if metrics.exists() else []
    if len(kept) < trainer.epoch and task.unit == ENSEMBLE:
        earlier = run.workspace.student(BASE) / "metrics.jsonl"
        kept = earlier.read_text().splitlines()[: trainer.epoch]
    metrics.write_text("".join(line + "\n" for line in kept))


def _half_way(path: Path, task: str, trainer: Trainer) -> dict[str, Tensor] | None:
    """The state that a task left half-way; None where there is none of it, or not all of it."""
    try:
        if not path.exists() or read_provenance(path).get("task") != task:
            return None
        state = read_tensors(path)
    except ArtifactError as error:
        _LOG.warning("not gone on from: %s", error)
        return None
    return state if _is_whole(state, trainer.network) else None


def _is_whole(state: Mapping[str, Tensor], network: nn.Module) -> bool:
    """Whether a state has every weight of a network, and what Adam knows of each."""
    wanted = {"epoch": torch.Size(), "step": torch.Size()}
    wanted |= {f"model/{key}": value.shape for key, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        wanted |= {f"exp_avg/{name}": parameter.shape, f"exp_avg_sq/{name}": parameter.shape}
    return all(key in state and state[key].shape == shape for key, shape in wanted.items())


def _append(metrics: Path, result: EpochResult) -> None:
    with metrics.open("a") as handle:
        handle.write(json.dumps(result._asdict()) + "\n")


def _provenance(run: RunContext, task: Task) -> dict[str, Any]:
    return {
        "student": task.unit,
        "text_space": run.text_encoder.text_space,
        "prompt": run.prompt,
        "teachers": list(run.config.run.teachers),
        "vocabulary": list(run.vocabulary),
        "scenes": list(task.units_of("fuse")),
        "config": dict(vars(run.config.distill)),
        "task": task.fingerprint,
    }


def _estimate(run: RunContext, student: str) -> int:
    """Bytes while it learns: the weights, thrice as many half-way, and the ensemble's scores."""
    if run.pretrained is not None:
        return sum(values.nbytes for values in run.pretrained.network.state_dict().values())
    with torch.device("meta"):
        weights = _network(run).state_dict().values()
    size = int(sum(values.nbytes for values in weights))
    scores = 0
    if student == ENSEMBLE:
        points = sum(estimate_points(run, scene) for scene in training_scenes(run))
        scores = 4 * points * len(run.training_prompts)
    hand_over = 3 * size if _hand_over_path(run) in _outputs(run, student) else 0
    return size + 3 * size + scores + hand_over


def _on_cpu(run: RunContext) -> bool:
    """Small students are quicker side by side than one after the other; a GPU is not shared."""
    return run.device.type == "cpu"


DISTILL = Stage(
    name="distill",
    version=3,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
    estimate=_estimate,
    parallel=_on_cpu,
)
