"""Stage distill against a trainer that the test fills and steers by itself, weight by weight."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from unittest import mock

import pytest
import torch

from pcdistill.artifacts import load_training_scene, training_log
from pcdistill.artifacts.students import load_student
from pcdistill.distillation import batch_queue
from pcdistill.distillation import trainer as trainer_module
from pcdistill.distillation.batch_cache import mixed_seed
from pcdistill.distillation.batches import StudentInput
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.student_features import infer_point_features
from pcdistill.distillation.trainer import Trainer
from pcdistill.errors import ConfigError, TrainingError
from pcdistill.labels import IGNORE_LABEL
from pcdistill.networks import MinkUNet, build_student, load_checkpoint
from pcdistill.pipeline.artifact_files import read_tensors, write_tensors
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.workspace import UnitRecord
from pcdistill.scenes import Scene, open_scene
from pcdistill.stages import distill as distill_module
from pcdistill.stages.distill import DistillStage
from pcdistill.training import student_training as training_module
from tests.stages.followed import Outcomes, follows
from tests.stages.toy import CLASSES, MEASURED, SCENE, ToyText, store, toy_labels, toy_run
from tests.stages.toy_students import (
    CHANNELS,
    ENSEMBLE,
    ROOMS,
    SMALL,
    TRAINER,
    assert_same,
    by_hand,
    losses,
    ready,
    room,
    train,
    weights,
)


def test_what_is_learned_from_is_what_the_stages_before_left(tmp_path):
    run = ready(tmp_path)
    for one in ROOMS:
        kind = run.config.distill.input
        found = load_training_scene(run.workspace, one.name, kind, per_point=True, scratch=tmp_path)
        for name in vars(one):
            expected, value = getattr(one, name), getattr(found, name)
            same = torch.equal(value, expected) if torch.is_tensor(expected) else value == expected
            assert same, name
    plain = load_training_scene(run.workspace, SCENE, "constant", per_point=False, scratch=tmp_path)
    assert plain.features is None


@pytest.mark.parametrize("student", ["point", "superpoint", ENSEMBLE])
def test_a_student_is_that_of_a_trainer(tmp_path, student):
    settings = {"students": [student], "epochs": 3}
    run = ready(tmp_path, **settings)
    train(run, student)
    assert_same(weights(run, student), by_hand(student, **settings))


def test_the_ensemble_goes_on_from_where_the_base_student_was(tmp_path):
    """Neither from its beginning nor its end: epochs 3 and 4 are trained, two are copied."""
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


@pytest.mark.parametrize("mapping", [None, (0, 1, 2), (2, 0, 0)])
def test_pseudo_labels_are_of_classes_not_of_prompts(tmp_path, mapping):
    """As nuScenes is asked for its 16 classes by 43 prompts."""
    given = None if mapping is None else torch.tensor(mapping)
    found = []

    class Listening(trainer_module.Trainer):
        def __init__(self, *arguments, class_of_prompt, **how):
            found.append(class_of_prompt)
            super().__init__(*arguments, class_of_prompt=class_of_prompt, **how)

    run = ready(tmp_path, students=[ENSEMBLE], epochs=2)
    run.label_set = toy_labels(mapping=given)
    with mock.patch.object(distill_module, "Trainer", Listening):
        train(run, ENSEMBLE)
    assert found == [given]
    if mapping != (2, 0, 0):
        assert_same(weights(run, ENSEMBLE), by_hand(ENSEMBLE, epochs=2))
    else:
        own = weights(run, ENSEMBLE)
        same = by_hand(ENSEMBLE, epochs=2)
        assert any(not torch.equal(own[key], same[key]) for key in own)


def test_the_half_way_state_of_another_training_is_not_gone_on_from(tmp_path):
    run, other = ready(tmp_path / "one"), ready(tmp_path / "other", seed=5, epochs=4)
    states = []
    written = training_module.write_tensors

    def keeping(path, tensors, provenance):
        if path.name == "state.safetensors":
            states.append({key: value.clone() for key, value in tensors.items()})
        written(path, tensors, provenance)

    with (
        mock.patch.object(training_module, "_STATE_EVERY", -1.0),
        mock.patch.object(training_module, "write_tensors", keeping),
    ):
        train(other)
    assert states
    path = run.workspace.student("superpoint") / "state.safetensors"
    write_tensors(path, states[0], {"task": "of another training"})
    train(run)
    assert_same(weights(run), by_hand())


def test_a_student_names_the_weights_of_its_teachers(tmp_path):
    run = ready(tmp_path, epochs=1)
    said = {name: {"revision": name, "license": "MIT"} for name in run.config.run.teachers}
    path = run.workspace.fused(ROOMS[0].name)
    write_tensors(path, read_tensors(path), {"weights": said})
    run.teacher = None  # no teacher is loaded for it
    train(run)
    known = load_checkpoint(run.workspace.checkpoint("superpoint")).metadata["provenance"]
    assert known["weights"] == said


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


@follows("distill.workers")
def test_workers(tmp_path) -> Outcomes:
    """Threads, and the same student by each number of them."""
    for value in (0, 1, 3):
        run, made = ready(tmp_path / str(value), workers=value), []

        def noted(workers, to=made):
            to.append(workers)
            return ThreadPoolExecutor(workers)

        with mock.patch.object(batch_queue, "ThreadPoolExecutor", noted):
            train(run)
        assert_same(weights(run), by_hand())
        yield made, [value] * 2 * bool(value)  # one pool in each of two epochs


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


@follows("distill.optimizer")
def test_optimizer(tmp_path) -> Outcomes:
    return of_students(tmp_path, "optimizer", ("adam", "adamw"), weight_decay=0.3)


@follows("distill.weight_decay")
def test_weight_decay(tmp_path) -> Outcomes:
    return of_students(tmp_path, "weight_decay", (0.0, 0.3))


@follows("distill.accumulate")
def test_accumulate(tmp_path) -> Outcomes:
    """Batch norms take the statistics of a part."""
    return of_students(tmp_path, "accumulate", (1, 2))


@follows("distill.max_voxels_per_batch")
def test_max_voxels_per_batch(tmp_path) -> Outcomes:
    """Batch norms take the statistics of a part."""
    return of_students(tmp_path, "max_voxels_per_batch", (0, 70))


@follows("distill.batch_order")
def test_batch_order(tmp_path) -> Outcomes:
    return of_students(tmp_path, "batch_order", ("random", "even", "alike"), batch_size=1, epochs=4)


@follows("distill.max_gradient_norm")
def test_max_gradient_norm(tmp_path) -> Outcomes:
    return of_students(tmp_path, "max_gradient_norm", (0.0, 0.1))


@follows("distill.ema_decay")
def test_ema_decay(tmp_path) -> Outcomes:
    return of_students(tmp_path, "ema_decay", (0.0, 0.2))


@follows("distill.adam_beta2")
def test_adam_beta2(tmp_path) -> Outcomes:
    return of_students(tmp_path, "adam_beta2", (0.5, 0.999))


@follows("distill.max_voxels_per_step")
def test_rows_per_step(tmp_path) -> Outcomes:
    return of_students(tmp_path, "max_voxels_per_step", (0, 9))


@follows("distill.augment")
def test_augment(tmp_path) -> Outcomes:
    return of_students(tmp_path, "augment", ("none", "grid", "full", "reference"))


@follows("distill.revoxelize_every")
def test_recut_every(tmp_path) -> Outcomes:
    kept = {"augment": "grid", "batch_size": 1, "epochs": 3}
    return of_students(tmp_path, "revoxelize_every", (1, 3), **kept)


@follows("distill.precision")
def test_precision(tmp_path) -> Outcomes:
    """`auto` is one or the other, as the processor has bfloat16."""
    yield from of_students(tmp_path, "precision", ("float32", "bfloat16"))
    for fast, same in ((True, "bfloat16"), (False, "float32")):
        with mock.patch.object(trainer_module, "has_fast_bfloat16", lambda device, f=fast: f):
            run = ready(tmp_path / same, precision="auto")
            train(run)
        assert_same(weights(run), by_hand(precision=same))


@follows("distill.ensemble_preset")
def test_ensemble_preset(tmp_path) -> Outcomes:
    own = ("ensemble_decay", "ensemble_temperature", "ensemble_weight", "keep_superpoint_loss")
    kept = {"epochs": 4, "learning_rate": 0.1, **dict.fromkeys(own)}
    presets = ("targets", "paper", "release")
    return of_students(tmp_path, "ensemble_preset", presets, ENSEMBLE, **kept)


@follows("distill.ensemble_start")
def test_ensemble_from(tmp_path) -> Outcomes:
    return of_students(tmp_path, "ensemble_start", (0.25, 0.75), ENSEMBLE, epochs=4)


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
        for unit in DistillStage(run).units():
            train(run, unit)
        files = run.workspace.root.glob("students/*/checkpoint.safetensors")
        found = {path.parent.name: weights(run, path.parent.name) for path in files}
        yield found, {student: by_hand(student, students=list(value)) for student in value}


@follows("run.seed")
def test_seed(tmp_path) -> Outcomes:
    """Of the first weights and of the steps: the rows that are drawn differ too."""
    for value in (0, 3):
        run = ready(tmp_path / str(value), seed=value, max_voxels_per_step=9)
        train(run)
        yield weights(run), by_hand(seed=value, max_voxels_per_step=9)


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


def measured_epochs(run: RunContext) -> dict[int, float]:
    """Epoch -> mIoU on the validation scenes, as the log tells."""
    lines = (run.workspace.student("superpoint") / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    return {one["epoch"]: one["validation_miou"] for one in told if "validation_miou" in one}


def with_validation(folder, **distill) -> RunContext:
    """The run of `ready` with a labelled room to measure; that of the second seed, turned over."""
    run = ready(folder, **distill)
    one = room(MEASURED, 5)
    labels = torch.arange(90) // 30
    labels[::7] = IGNORE_LABEL
    scene = Scene(MEASURED, one.points, one.colors, one.normals, labels=labels)
    store(run, scene)
    return run


def miou_by_hand(network, run: RunContext) -> float:
    """Mean over the classes of right points by all points that are, or were called, of a class."""
    one = open_scene(run.workspace.scene(MEASURED))
    cloud = StudentInput(one.points, one.normals, one.colors)
    scores = infer_point_features(network, cloud, SMALL["voxel_size"], torch.device("cpu"))[:, :3]
    called, ious = scores.argmax(dim=1), []
    known = one.labels != IGNORE_LABEL
    for number in range(3):
        is_it, said = (one.labels == number) & known, (called == number) & known
        ious.append(float((is_it & said).sum() / (is_it | said).sum()))
    return 100 * sum(ious) / 3


def after_each_epoch(run: RunContext, epochs: int) -> list[tuple[float, dict]]:
    """mIoU and weights after each epoch, of a trainer that the test steers."""
    torch.manual_seed(mixed_seed(0))
    network = build_student("MinkUNet14A", 7, 4, width=0.125)
    how = TrainerSettings(**{**{key: SMALL[key] for key in TRAINER}, "epochs": epochs})
    learner = Trainer(network, ROOMS, ToyText().encode(CLASSES), how, torch.device("cpu"))
    found = []
    for _ in range(epochs):
        learner.train_epoch()
        miou = miou_by_hand(network, run)
        weights = {key: value.clone() for key, value in network.state_dict().items()}
        found.append((miou, weights))
    return found


@follows("distill.validate_every")
def test_validate_every(tmp_path) -> Outcomes:
    """And after the last epoch; the student is that of a training without."""
    for value, epochs in ((0, []), (2, [2, 4, 5]), (3, [3, 5])):
        run = with_validation(tmp_path / str(value), validate_every=value, epochs=5)
        train(run)
        by_epoch = after_each_epoch(run, 5)
        assert_same(weights(run), by_epoch[-1][1])
        yield measured_epochs(run), {epoch: by_epoch[epoch - 1][0] for epoch in epochs}


@follows("distill.answer")
def test_answer(tmp_path) -> Outcomes:
    """The other weights are beside those that answer."""
    for value, other in (("last", "best"), ("best", "last")):
        run = with_validation(tmp_path / value, validate_every=1, epochs=5, answer=value)
        train(run)
        by_epoch = after_each_epoch(run, 5)
        best = max(by_epoch, key=lambda pair: pair[0])[1]
        right = {"last": by_epoch[-1][1], "best": best}
        beside = load_checkpoint(run.workspace.student("superpoint") / f"{other}.safetensors")
        assert_same(beside.network.state_dict(), right[other])
        yield weights(run), right[value]


@follows("distill.log")
def test_log(tmp_path) -> Outcomes:
    for value in ("epoch", "step"):
        run = ready(tmp_path / value, log=value, batch_size=1)
        train(run)
        path = run.workspace.student("superpoint") / "steps.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        told = [json.loads(line) for line in lines]
        found = [(one["epoch"], one["step"], one["loss"] > 0) for one in told]
        steps = [(1, 1, True), (1, 2, True), (2, 3, True), (2, 4, True)]
        yield found, steps if value == "step" else []


@follows("distill.tensorboard")
def test_tensorboard(tmp_path) -> Outcomes:
    """Whose writer another test looks at."""
    for value in (False, True):
        told: list[tuple[str, int]] = []
        board = mock.Mock(add_scalar=lambda key, number, step, to=told: to.append((key, step)))
        run = ready(tmp_path / str(value), tensorboard=value)
        with mock.patch.object(training_log, "open_tensorboard", lambda *_, b=board: b):
            train(run)
        assert bool(board.close.called) == value
        losses_told = [one for one in told if one[0].endswith("/loss")]
        right = [("step/loss", 1), ("epoch/loss", 1), ("step/loss", 2), ("epoch/loss", 2)]
        yield losses_told, right if value else []


def test_a_training_with_everything_that_is_killed_gives_the_same_student(tmp_path):
    """At each state that it writes: the average, the best weights and the log go on, too."""
    changes = {"epochs": 3, "batch_size": 1, "validate_every": 1, "answer": "best", "log": "step"}
    changes |= {"ema_decay": 0.5, "optimizer": "adamw", "weight_decay": 0.1}
    whole = with_validation(tmp_path / "whole", **changes)
    train(whole)
    cut, states = with_validation(tmp_path / "cut", **changes), [0]
    written = training_module.write_tensors

    class Killed(Exception):
        """Ends the process."""

    def writing(path, tensors, provenance):
        written(path, tensors, provenance)
        states[0] += 1
        raise Killed

    with (
        mock.patch.object(training_module, "_STATE_EVERY", -1.0),
        mock.patch.object(training_module, "_STATE_WITHIN_EPOCH", -1.0),
        mock.patch.object(training_module, "write_tensors", writing),
    ):
        while states[0] < 20:
            try:
                train(cut)
                break
            except Killed:
                continue
    assert states[0] == 5  # after every step but the last
    assert_same(weights(cut), weights(whole))
    folders = [run.workspace.student("superpoint") for run in (cut, whole)]
    last = [load_checkpoint(folder / "last.safetensors").network.state_dict() for folder in folders]
    assert_same(*last)
    assert measured_epochs(cut) == measured_epochs(whole)
    for name in ("metrics.jsonl", "steps.jsonl"):
        told = [
            [without_times(json.loads(line)) for line in (folder / name).read_text().splitlines()]
            for folder in folders
        ]
        assert told[0] == told[1]
        assert told[0]


def without_times(values: dict) -> dict:
    return {key: value for key, value in values.items() if key not in ("seconds", "waiting")}


def test_without_a_labelled_validation_scene_it_is_a_sentence(tmp_path):
    run = ready(tmp_path, validate_every=1)
    one = room(MEASURED, 5)
    store(run, Scene(MEASURED, one.points, one.colors, one.normals))
    with pytest.raises(TrainingError, match=r"none of the 1 validation scenes .* has labels"):
        train(run)


def test_a_student_has_a_card(tmp_path):
    run = with_validation(tmp_path, epochs=2, validate_every=2)
    path = run.workspace.fused(ROOMS[0].name)
    known = {"demo-dense": {"revision": "r7", "license": "CC BY 4.0"}}
    write_tensors(path, read_tensors(path), {"weights": known})
    train(run)
    card = (run.workspace.student("superpoint") / "card.md").read_text()
    for line in (
        "# Student superpoint",
        "| scenes learned from | 2 |",
        "| points | 180 |",
        "| scenes validated on | 1 |",
        "| demo-dense | r7 | CC BY 4.0 |",
        "| demo-masks | not known | not known |",
        "| epoch | 2 |",
        "| best epoch | 2 |",
        f"| torch | {version('torch')} |",
        "| device | CPU |",
        "| seed | 0 |",
        "| voxel_size | 0.3 |",
    ):
        assert line in card, line
    seconds = sum(
        json.loads(line)["seconds"]
        for line in (run.workspace.student("superpoint") / "metrics.jsonl").read_text().splitlines()
    )
    assert f"| training time | 0 h 0 min {round(seconds)} s |" in card


@follows("distill.engine")
def test_engine(tmp_path) -> Outcomes:
    """Of the student that learns and of the one that is asked, whatever is installed here."""
    trained = ready(tmp_path)
    train(trained)
    for value in ("torch", "minkowski", "triton"):
        run = ready(tmp_path, engine=value)
        asked: list[str] = []

        def listening(network, name, to=asked):
            to.append(name)

        with mock.patch.object(MinkUNet, "set_engine", listening):
            DistillStage(run).estimate("superpoint")
            made = list(asked)
            load_student(run.workspace, run.config.distill, "superpoint")
        yield (made, asked[len(made) :][-1]), ([value], value)


@follows("distill.pretrained")
def test_trained(tmp_path) -> Outcomes:
    """A student of another run, by the name of its workspace or of its file."""
    trained = ready(tmp_path / "one", students=["point", "superpoint"])
    for student in ("point", "superpoint"):
        train(trained, student)
        record = UnitRecord("", "done", "", 0.0, {}, {})
        trained.workspace.write_record("distill", student, record)
    trained.workspace.config.write_text("distill: {students: [point, superpoint]}")
    root = trained.workspace.root
    for value, student in ((f"{root}:point", "point"), (str(root), "superpoint")):
        run = toy_run(tmp_path / student, distill={"pretrained": value})
        assert DistillStage(run).units() == ("pretrained",)
        train(run, "pretrained")
        loaded = load_student(run.workspace, run.config.distill, "pretrained")
        assert loaded.needs == (SMALL["voxel_size"], SMALL["input"])
        yield loaded.network.state_dict(), weights(trained, student)
