"""Stage distill against a trainer that the test fills and steers by itself, weight by weight."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.distillation import trainer as trainer_module
from pcdistill.distillation.data import TrainingScene
from pcdistill.distillation.trainer import EnsembleSettings, Trainer, TrainerSettings
from pcdistill.distillation.views import mixed_seed
from pcdistill.errors import ConfigError
from pcdistill.networks import MinkUNet, build_student, load_checkpoint
from pcdistill.scenes import Scene
from pcdistill.stages import distill as distill_module
from pcdistill.stages.distill import DISTILL, training_scene
from pcdistill.stages.files import read_tensors, write_tensors
from pcdistill.stages.run import Run
from pcdistill.stages.stage import Input, Task
from pcdistill.stages.students import load_student
from pcdistill.stages.workspace import Record
from tests.stages.followed import Outcomes, follows
from tests.stages.toy import CLASSES, OTHER, SCENE, ToyText, store, toy_run, write_superpoints

CPU = torch.device("cpu")
ENSEMBLE = "superpoint+ensemble"
CHANNELS = {"constant": 3, "geometry": 4, "color": 7}
SMALL = {
    "students": ["superpoint"],
    "architecture": "MinkUNet14A",
    "width": 0.125,
    "voxel_size": 0.3,
    "input": "color",
    "epochs": 2,
    "batch_size": 2,
    "learning_rate": 1e-2,
    "final_learning_rate": 1e-3,
    "rows_per_step": 0,
    "augment": "none",
    "adam_beta2": 0.999,
    "schedule": "linear",
    "precision": "float32",
    "recut_every": 1,
    "ensemble_from": 0.5,
    "ensemble_decay": 0.9,
    "ensemble_temperature": 1.0,
    "ensemble_weight": 1.0,
    "keep_superpoint_loss": True,
}
TRAINER = (
    *("voxel_size", "epochs", "batch_size", "learning_rate", "final_learning_rate"),
    *("rows_per_step", "augment", "adam_beta2", "schedule", "precision", "recut_every"),
)


def room(name: str, seed: int) -> TrainingScene:
    """Points on a floor and a wall; five superpoints, of which one was seen by nobody."""
    generator = torch.Generator().manual_seed(seed)
    flat = 1.5 * torch.rand(90, 2, generator=generator)
    floor = torch.stack([flat[:45, 0], flat[:45, 1], torch.zeros(45)], dim=1)
    wall = torch.stack([flat[45:, 0], torch.zeros(45), flat[45:, 1]], dim=1)
    ids = torch.arange(90) // 18
    seen = (torch.rand(90, generator=generator) < 0.6) & (ids != 3)
    features = torch.randn(90, 4, generator=generator).half() * seen[:, None]
    means = torch.stack([features[(ids == i) & seen].float().mean(dim=0) for i in range(5)])
    normals = torch.eye(3)[[2, 1]].repeat_interleave(45, dim=0)
    colors = torch.randint(0, 256, (90, 3), generator=generator, dtype=torch.uint8)
    points = torch.cat([floor, wall])
    return TrainingScene(
        name, points, ids, means.nan_to_num(0).half(), seen, features, normals, colors
    )


ROOMS = (room(SCENE, 1), room(OTHER, 2))


def ready(folder, *, seed: int = 0, **distill) -> Run:
    """A run whose two rooms are stored, partitioned and fused."""
    sections = {"run": {"seed": seed}, "ingest": {"train": 2}, "distill": {**SMALL, **distill}}
    run = toy_run(folder, **sections)
    for one in ROOMS:
        store(run, Scene(one.name, one.points, one.colors, one.normals))
        write_superpoints(run, one.name, one.superpoint_ids.tolist())
        sight = {
            "superpoint_means": one.superpoint_means,
            "superpoint_seen": torch.tensor([1, 1, 1, 0, 1], dtype=torch.uint8),
            "seen_bits": torch.from_numpy(np.packbits(one.seen.numpy())),
            "features": one.features[one.seen],
        }
        write_tensors(run.workspace.fused(one.name), sight, {})
    return run


def train(run: Run, student: str = "superpoint") -> list[int]:
    """Train one student; returns the epochs that were reported."""
    epochs: list[int] = []
    wanted = tuple(Input(i.stage, i.unit) for i in DISTILL.inputs(run, student))
    DISTILL.work(run, Task(student, wanted, "t"), lambda done, total, words: epochs.append(done))
    return epochs


def weights(run: Run, student: str = "superpoint") -> dict[str, Tensor]:
    return load_checkpoint(run.workspace.checkpoint(student)).network.state_dict()


def losses(run: Run, student: str = "superpoint") -> list[tuple[float, float]]:
    lines = (run.workspace.student(student) / "metrics.jsonl").read_text().splitlines()
    return [(line["loss"], line["ensemble_loss"]) for line in map(json.loads, lines)]


def by_hand(student: str = "superpoint", *, seed: int = 0, **distill) -> dict[str, Tensor]:
    """The student that a trainer makes of the rooms; the ensemble joins one that goes on."""
    config = {**SMALL, **distill}
    shown = [
        replace(
            one,
            normals=None if config["input"] == "constant" else one.normals,
            colors=one.colors if config["input"] == "color" else None,
        )
        for one in ROOMS
    ]
    torch.manual_seed(mixed_seed(seed))
    channels, width = CHANNELS[config["input"]], config["width"]
    network = build_student(config["architecture"], channels, 4, width=width)
    settings = TrainerSettings(
        **{key: config[key] for key in TRAINER},
        target="point" if student == "point" else "superpoint",
        seed=seed,
    )
    learner = Trainer(network, shown, ToyText().encode(CLASSES), settings, CPU)
    if student == ENSEMBLE:
        joins = round(config["ensemble_from"] * config["epochs"])
        for _ in range(joins):
            learner.train_epoch()
        ensemble = EnsembleSettings(
            joins,
            config["ensemble_decay"],
            config["ensemble_temperature"],
            config["ensemble_weight"],
            config["keep_superpoint_loss"],
        )
        state = {key: value.clone() for key, value in learner.state().items()}
        settings = replace(settings, ensemble=ensemble)
        learner = Trainer(network, shown, ToyText().encode(CLASSES), settings, CPU)
        learner.load_state(state)
    while not learner.finished:
        learner.train_epoch()
    return network.state_dict()


def test_what_is_learned_from_is_what_the_stages_before_left(tmp_path):
    run = ready(tmp_path)
    for one in ROOMS:
        found = training_scene(run, one.name, per_point=True)
        for name in vars(one):
            expected, value = getattr(one, name), getattr(found, name)
            same = torch.equal(value, expected) if torch.is_tensor(expected) else value == expected
            assert same, name
    assert training_scene(run, SCENE, per_point=False).features is None


@pytest.mark.parametrize("student", ["point", "superpoint", ENSEMBLE])
def test_a_student_is_that_of_a_trainer(tmp_path, student):
    settings = {"students": [student], "epochs": 3}
    run = ready(tmp_path, **settings)
    train(run, student)
    assert_same(weights(run, student), by_hand(student, **settings))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_the_ensemble_goes_on_from_where_the_base_student_was(tmp_path):
    """Not from its beginning, nor from its end: epochs 3 and 4 are trained, the first two copied."""
    settings = {"students": ["superpoint", ENSEMBLE], "epochs": 4}
    run = ready(tmp_path, **settings)
    assert train(run) == [1, 2, 3, 4]
    handed = read_tensors(run.workspace.student("superpoint") / "hand_over.safetensors")
    assert int(handed["epoch"]) == 2
    assert train(run, ENSEMBLE) == [3, 4]
    assert losses(run, ENSEMBLE)[:2] == losses(run)[:2]
    assert [own > 0 for _, own in losses(run, ENSEMBLE)] == [False, False, True, True]
    assert_same(weights(run), by_hand(**settings))
    assert_same(weights(run, ENSEMBLE), by_hand(ENSEMBLE, **settings))


def test_the_half_way_state_of_another_training_is_not_gone_on_from(tmp_path):
    run, other = ready(tmp_path / "one"), ready(tmp_path / "other", seed=5, epochs=4)
    states = []
    written = distill_module.write_tensors

    def keeping(path, tensors, provenance):
        if path.name == "state.safetensors":
            states.append({key: value.clone() for key, value in tensors.items()})
        written(path, tensors, provenance)

    with (
        mock.patch.object(distill_module, "_STATE_EVERY", -1.0),
        mock.patch.object(distill_module, "write_tensors", keeping),
    ):
        train(other)
    assert states
    path = run.workspace.student("superpoint") / "state.safetensors"
    write_tensors(path, states[0], {"task": "of another training"})
    train(run)
    assert_same(weights(run), by_hand())


def of_students(folder, setting: str, values, student: str = "superpoint", **distill) -> Outcomes:
    """The weights of a student for some values of a setting."""
    for number, value in enumerate(values):
        settings = {**distill, "students": [student], setting: value}
        run = ready(folder / str(number), **settings)
        train(run, student)
        yield weights(run, student), by_hand(student, **settings)


@follows("distill.architecture")
def test_architecture(tmp_path) -> Outcomes:
    return of_students(tmp_path, "architecture", ("MinkUNet14A", "MinkUNet18A"))


@follows("distill.width")
def test_width(tmp_path) -> Outcomes:
    return of_students(tmp_path, "width", (0.125, 0.25))


@follows("distill.input")
def test_input(tmp_path) -> Outcomes:
    return of_students(tmp_path, "input", CHANNELS)


@follows("distill.voxel_size")
def test_voxel_size(tmp_path) -> Outcomes:
    return of_students(tmp_path, "voxel_size", (0.3, 0.2))


@follows("distill.epochs")
def test_epochs(tmp_path) -> Outcomes:
    return of_students(tmp_path, "epochs", (1, 2))


@follows("distill.batch_size")
def test_batch_size(tmp_path) -> Outcomes:
    return of_students(tmp_path, "batch_size", (1, 2))


@follows("distill.learning_rate")
def test_learning_rate(tmp_path) -> Outcomes:
    return of_students(tmp_path, "learning_rate", (1e-2, 2e-2))


@follows("distill.final_learning_rate")
def test_final_learning_rate(tmp_path) -> Outcomes:
    return of_students(tmp_path, "final_learning_rate", (0.0, 1e-2))


@follows("distill.schedule")
def test_schedule(tmp_path) -> Outcomes:
    names = ("linear", "one-cycle", "polynomial", "released")
    return of_students(tmp_path, "schedule", names, learning_rate=1e-3)


@follows("distill.adam_beta2")
def test_adam_beta2(tmp_path) -> Outcomes:
    return of_students(tmp_path, "adam_beta2", (0.5, 0.999))


@follows("distill.rows_per_step")
def test_rows_per_step(tmp_path) -> Outcomes:
    return of_students(tmp_path, "rows_per_step", (0, 9))


@follows("distill.augment")
def test_augment(tmp_path) -> Outcomes:
    return of_students(tmp_path, "augment", ("none", "grid", "full"))


@follows("distill.recut_every")
def test_recut_every(tmp_path) -> Outcomes:
    kept = {"augment": "grid", "batch_size": 1, "epochs": 3}
    return of_students(tmp_path, "recut_every", (1, 3), **kept)


@follows("distill.precision")
def test_precision(tmp_path) -> Outcomes:
    """`auto` is one or the other, as the processor has bfloat16."""
    yield from of_students(tmp_path, "precision", ("float32", "bfloat16"))
    for fast, same in ((True, "bfloat16"), (False, "float32")):
        with mock.patch.object(trainer_module, "has_fast_bfloat16", lambda device, f=fast: f):
            run = ready(tmp_path / same, precision="auto")
            train(run)
        assert_same(weights(run), by_hand(precision=same))


@follows("distill.ensemble_from")
def test_ensemble_from(tmp_path) -> Outcomes:
    return of_students(tmp_path, "ensemble_from", (0.25, 0.75), ENSEMBLE, epochs=4)


@follows("distill.ensemble_decay")
def test_ensemble_decay(tmp_path) -> Outcomes:
    kept = {"epochs": 4, "keep_superpoint_loss": False, "learning_rate": 0.1}
    return of_students(tmp_path, "ensemble_decay", (0.0, 0.99), ENSEMBLE, **kept)


@follows("distill.ensemble_temperature")
def test_ensemble_temperature(tmp_path) -> Outcomes:
    return of_students(tmp_path, "ensemble_temperature", (0.1, 1.0), ENSEMBLE)


@follows("distill.ensemble_weight")
def test_ensemble_weight(tmp_path) -> Outcomes:
    return of_students(tmp_path, "ensemble_weight", (0.0, 1.0, 9.0), ENSEMBLE)


@follows("distill.keep_superpoint_loss")
def test_keep_superpoint_loss(tmp_path) -> Outcomes:
    return of_students(tmp_path, "keep_superpoint_loss", (False, True), ENSEMBLE)


@follows("distill.students")
def test_students(tmp_path) -> Outcomes:
    """Each gives a student, and no other is trained."""
    for value in (("point",), ("point", "superpoint")):
        run = ready(tmp_path / "-".join(value), students=list(value))
        for unit in DISTILL.units(run):
            train(run, unit)
        files = run.workspace.root.glob("students/*/checkpoint.safetensors")
        found = {path.parent.name: weights(run, path.parent.name) for path in files}
        yield found, {student: by_hand(student, students=list(value)) for student in value}


@follows("run.seed")
def test_seed(tmp_path) -> Outcomes:
    """Of the first weights and of the steps: the rows that are drawn differ too."""
    for value in (0, 3):
        run = ready(tmp_path / str(value), seed=value, rows_per_step=9)
        train(run)
        yield weights(run), by_hand(seed=value, rows_per_step=9)


@follows("distill.device")
def test_device(tmp_path) -> Outcomes:
    """On a machine with a GPU and on one without."""
    for value, right in (
        ("auto", {True: "cuda", False: "cpu"}),
        ("cpu", {True: "cpu", False: "cpu"}),
        ("cuda", {True: "cuda", False: "refused"}),
    ):
        found = {}
        for there in (True, False):
            with mock.patch.object(torch.cuda, "is_available", lambda t=there: t):
                try:
                    found[there] = str(toy_run(tmp_path, distill={"device": value}).device)
                except ConfigError:
                    found[there] = "refused"
        yield found, right


@follows("distill.engine")
def test_engine(tmp_path) -> Outcomes:
    """Of the student that learns and of the one that is asked, whatever is installed here."""
    trained = ready(tmp_path)
    train(trained)
    for value in ("torch", "minkowski", "triton"):
        run = ready(tmp_path, engine=value)
        asked: list[str] = []
        with mock.patch.object(MinkUNet, "use_engine", lambda self, name, to=asked: to.append(name)):
            DISTILL.estimate(run, "superpoint")
            made = list(asked)
            load_student(run, "superpoint")
        yield (made, asked[len(made) :][-1]), ([value], value)


@follows("distill.trained")
def test_trained(tmp_path) -> Outcomes:
    """A student of another run, by the name of its workspace or of its file."""
    trained = ready(tmp_path / "one", students=["point", "superpoint"])
    for student in ("point", "superpoint"):
        train(trained, student)
        record = Record("", "done", "", 0.0, {}, {})
        trained.workspace.write_record("distill", student, record)
    trained.workspace.config.write_text("distill: {students: [point, superpoint]}")
    root = trained.workspace.root
    for value, student in ((f"{root}:point", "point"), (str(root), "superpoint")):
        run = toy_run(tmp_path / student, distill={"trained": value})
        assert DISTILL.units(run) == ("trained",)
        train(run, "trained")
        loaded = load_student(run, "trained")
        assert loaded.needs == (SMALL["voxel_size"], SMALL["input"])
        yield loaded.network.state_dict(), weights(trained, student)
