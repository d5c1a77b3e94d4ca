"""The study of the temporal ensemble trains as the trainer does, and each setting does its part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pcdistill.distillation import StudentInput, Trainer, TrainerSettings, TrainingScene
from pcdistill.distillation.batches import make_voxel_batch
from pcdistill.distillation.ensemble_settings import EnsemblePreset
from pcdistill.networks import build_student
from tools.benchmarks.ensemble_page import SeedResults, against_none, study_page
from tools.benchmarks.ensemble_settings import OFF, SETTINGS, differences
from tools.benchmarks.ensemble_training import KeptBatches, LabelLoss, Texts, train_on

CPU = torch.device("cpu")
CHANNELS = 8
HOW = TrainerSettings(
    voxel_size=0.2,
    epochs=5,
    ensemble_start=0.4,
    batch_size=1,
    max_voxels_per_step=0,
    augment="grid",
    learning_rate=1e-2,
    revoxelize_every=2,
)
TEXT = torch.eye(CHANNELS)[:3]


def scene(number: int) -> TrainingScene:
    generator = torch.Generator().manual_seed(number)
    points = torch.rand(200, 3, generator=generator)
    ids = (points[:, 0] > 0.5).long() + 2 * (points[:, 1] > 0.5).long()
    means = torch.rand(4, CHANNELS, generator=generator)
    seen = torch.rand(200, generator=generator) > 0.1
    return TrainingScene(f"scene{number}", points, ids, means, seen)


SCENES = [scene(1), scene(2)]


def network():
    torch.manual_seed(0)
    return build_student("MinkUNet14A", 3, CHANNELS, width=0.125)


def trainer(preset: EnsemblePreset | None) -> Trainer:
    how = HOW if preset is None else replace(HOW, ensemble_preset=preset)
    return Trainer(network(), SCENES, TEXT, how, CPU, ensemble=preset is not None, seed=3)


@pytest.fixture(scope="module")
def hand_over():
    learner = trainer(None)
    learner.train_epoch()
    learner.train_epoch()
    return {key: value.clone() for key, value in learner.state().items()}


def weights_after(hand_over, name):
    student, settings = network(), replace(SETTINGS[name], epochs=3)
    train_on(student, hand_over, SCENES, settings, TEXT, HOW, 3, KeptBatches(SCENES, HOW, 3))
    return student.state_dict()


@pytest.mark.parametrize(
    ("name", "preset"),
    [(OFF, None), ("paper", "paper"), ("release", "release"), ("cosine targets", "targets")],
)
def test_the_study_trains_as_the_trainer_does(hand_over, name, preset):
    learner = trainer(preset)
    learner.load_state(hand_over)
    while not learner.finished:
        learner.train_epoch()
    found = weights_after(hand_over, name)
    for key, value in learner.network.state_dict().items():
        assert torch.equal(found[key], value), key


def loss_of(name: str, output: torch.Tensor, **changes) -> torch.Tensor:
    """Loss of the first scene at the first step with labels, of an output that is given."""
    settings, one = replace(SETTINGS[name], **changes), SCENES[0]
    loss = LabelLoss(settings, TEXT, [one])
    cloud = StudentInput(one.points)
    batch = make_voxel_batch([cloud], HOW.voxel_size)
    loss.begin(Said(output[: len(batch.coords)]), [one], HOW.voxel_size)
    rows = one.seen[batch.representative[0]].nonzero()[:, 0]
    return loss(one, output[: len(batch.coords)] * NOW, batch, rows)


class Said(torch.nn.Module):
    """A student that says the same whatever it is shown."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


OUTPUT = 5 * torch.randn(200, CHANNELS, generator=torch.Generator().manual_seed(5))
NOW = torch.tensor([-1.0, 1, 1, 1, 1, 1, 1, 1])
"""What the student says is changed by this since the history began."""
OF_THE_LOSS = {
    "targets": {},
    "paper, decay 0.5": {"decay": 0.0},
    "paper, superpoint labels": {},
    "paper, surest half": {},
    "paper, balanced": {"balance": 1.0},
    "paper, agreeing": {},
    "paper, temperature 10": {},
    "paper, cosines": {},
}
"""Settings that change the loss of one step, made plain by further changes."""


@pytest.mark.parametrize("name", OF_THE_LOSS)
def test_a_setting_changes_the_loss(name):
    changes = OF_THE_LOSS[name]
    paper = loss_of("paper", OUTPUT)
    assert abs(float(loss_of(name, OUTPUT, **changes) - paper)) > 1e-3


def test_a_scene_joins_once_enough_of_its_labels_are_what_its_targets_say():
    paper = loss_of("paper", OUTPUT)
    assert loss_of("paper", OUTPUT, join_agreement=1e-6) == paper
    assert loss_of("paper", OUTPUT, join_agreement=1.1) == 0


def test_labels_come_from_the_words_of_the_setting():
    texts = Texts(TEXT, torch.eye(CHANNELS)[3:])
    assert texts.of(SETTINGS["paper"]) is texts.label_set
    assert texts.of(SETTINGS["paper, vocabulary"]) is texts.vocabulary


def cells(right: int) -> list[list[int]]:
    """Confusion of two classes of 100 points, of which so many of the first are right."""
    return [[0, 0, right], [1, 0, 100 - right], [1, 1, 100]]


def results(seed: int, right: dict[str, int]) -> SeedResults:
    """Homes of a seed, and how many points of the first class each setting gets right."""
    gradient = {"output": 1.0, "weights": 2.0, "cosine": 1.0}
    hand_over = {
        "hand_over": {f"home{i}": cells(50) for i in range(4)},
        "training": {
            "point": cells(40),
            "superpoint": cells(50),
            "targets": cells(80),
        },
        "outside": {"point": [3, 1], "superpoint": [1, 3], "targets": [4, 0]},
        "seen_points": 40,
        "agreeing": [0.25, 0.5],
        "length": 20.0,
        "gradients": [
            {"labels": "cosine losses", **gradient},
            {
                **{"labels": "student", "unit": False, "temperature": 1.0},
                **{"output": 12.0, "weights": 8.0, "cosine": -0.25},
            },
        ],
    }
    settings = {
        name: {"confusion": {f"home{i}": cells(count) for i in range(4)}}
        for name, count in right.items()
    }
    return SeedResults(seed, hand_over, settings)


def test_the_page_says_what_is_significant():
    found = [results(s, {OFF: 60, "paper": 40, "targets": 80, "release": 60}) for s in range(3)]
    page = study_page(found, ("wall", "floor"), ["about"])
    assert "- ahead of `without`: targets (+" in page
    assert "- behind `without`: paper (-" in page
    assert "- no difference from `without` that these homes can tell: release (+0.0" in page
    assert "| student | raw | 1 | 12.0 | 4.0 | -0.25 |" in page
    assert "10 % of the seen training points" in page  # 12 of 120
    assert "- 2D targets: wall 100 %, floor 0 %" in page
    assert "| 2D targets | 90.0 |" in page
    assert "| wall | 40 (40) |" in page


def test_a_setting_that_one_seed_lacks_is_held_against_the_same_seeds():
    found = [results(0, {OFF: 60, "paper": 40}), results(1, {OFF: 10})]
    apart = against_none(found, "paper", 2)
    assert apart is not None
    assert apart.seeds == 1
    assert apart.difference < 0
    assert against_none(found, "targets", 2) is None


def test_each_setting_says_what_it_changes():
    told = {name: differences(name) for name in SETTINGS}
    assert told["paper"] == "as printed (decay 0.9, which is not)"
    assert told[OFF] == "no labels"
    assert told["targets"] == "decay 1, begins with targets"
    assert len(set(told.values())) == len(told)
