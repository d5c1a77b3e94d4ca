"""What is learned from and what is measured are different homes and scans, for every seed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.artifacts import split_scenes
from pcdistill.capability.generators.rendered import RenderedImageGenerator
from pcdistill.errors import ConfigError
from pcdistill.homes.floorplan import floor_plan
from pcdistill.homes.home import SPLITS, build_home, seed_sequence
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.scenes import MemoryFrame, Scene, open_scene, write_scene
from pcdistill.stages.distill import DistillStage
from pcdistill.stages.evaluate import EvaluateStage
from pcdistill.stages.ingest import IngestStage
from tests.conftest import REPOSITORY
from tests.fixtures.runs import predictor
from tests.stages.toy import work

TRAIN, VALIDATION = 3, 2


def run_of(folder: Path, seed: int = 0, **ingest) -> RunContext:
    sections = {
        "run": {"workspace": str(folder), "seed": seed},
        "ingest": {"train": TRAIN, "validation": VALIDATION, **ingest},
    }
    return RunContext(config_from_dict(sections, "test"))


@pytest.fixture
def made(monkeypatch) -> list[tuple[int, str]]:
    """(seed, split) of every home that was made; homes are a few points."""
    homes: list[tuple[int, str]] = []

    def home_scene(seed: int, split: str, *, frames: int, image_size) -> Scene:
        homes.append((seed, split))
        matrix, pose = torch.eye(3, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
        frame = MemoryFrame("f", matrix, pose, torch.zeros(4, 4, 3, dtype=torch.uint8))
        points = torch.tensor([[float(seed), float(SPLITS[split].stream), 0.0]] * 3)
        return Scene("home", points, colors=torch.zeros(3, 3).byte(), frames=(frame,))

    monkeypatch.setattr("pcdistill.homes.home_scene", home_scene)
    return homes


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_homes_are_furnished_for_training_or_for_measuring(tmp_path, made, seed):
    run = run_of(tmp_path, seed)
    for name in split_scenes(run).all:
        work(IngestStage, run, name)
    first = 1000 * seed
    training = [(first + number, "train") for number in range(TRAIN)]
    validation = [(first + number, "validation") for number in range(VALIDATION)]
    assert made == training + validation
    for name, (number, split) in zip(split_scenes(run).all, made, strict=True):
        stored = open_scene(run.workspace.scene(name)).points[0]
        assert stored.tolist() == [number, SPLITS[split].stream, 0]
        settings = IngestStage(run).settings(name)
        assert (settings["home"], settings["split"]) == (number, split)


def test_no_two_runs_of_different_seeds_share_a_home(tmp_path, made):
    for seed in (0, 1):
        run = run_of(tmp_path / str(seed), seed)
        for name in split_scenes(run).all:
            work(IngestStage, run, name)
    assert len(set(made)) == len(made) == 2 * (TRAIN + VALIDATION)


def plan(split: str, seed: int) -> list[tuple[float, ...]]:
    rooms = floor_plan(np.random.default_rng(seed_sequence(split, seed)))
    return [(room.rect.x0, room.rect.y0, room.rect.x1, room.rect.y1) for room in rooms]


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_splits_draw_from_streams_of_their_own(seed):
    """The same seed gives another floor plan in each split, the same one twice."""
    assert len({split.stream for split in SPLITS.values()}) == len(SPLITS) == 6
    states = [tuple(seed_sequence(split, seed).generate_state(4)) for split in sorted(SPLITS)]
    assert len(set(states)) == 6
    for one, other in pairwise([*sorted(SPLITS), sorted(SPLITS)[0]]):
        assert plan(one, seed) != plan(other, seed)
        assert plan(one, seed) == plan(one, seed)
    with pytest.raises(ConfigError, match="split"):
        build_home(seed, "test")


def test_a_student_learns_from_training_scenes_and_rows_are_measured_on_the_others(tmp_path):
    run = run_of(tmp_path)
    learned = {needed.unit for needed in DistillStage(run).inputs("superpoint")}
    assert learned == set(split_scenes(run).training) == {f"home-train-{n}" for n in range(TRAIN)}
    for row in predictor(run).methods.names:
        needed = [i.unit for i in EvaluateStage(run).inputs(row) if i.stage == "partition"]
        assert set(needed) == set(split_scenes(run).validation)
        assert not learned & set(needed)


@pytest.mark.parametrize(
    ("lists", "training", "validation"),
    [
        ({"train_list": "abc"}, "abc", "de"),
        ({"validation_list": "ab"}, "cde", "ab"),
        ({"train_list": "ab", "validation_list": "de"}, "ab", "de"),
    ],
)
def test_scans_are_learned_from_or_measured_as_the_lists_say(tmp_path, lists, training, validation):
    for name in "abcde":
        write_scene(Scene(name, torch.rand(9, 3)), tmp_path / "scans" / name)
    given = {}
    for key, names in lists.items():
        given[key] = str(tmp_path / f"{key}.txt")
        Path(given[key]).write_text("\n".join(names))
    run = run_of(tmp_path / "run", source="scan", path=str(tmp_path / "scans"), **given)
    assert "".join(split_scenes(run).training) == training
    assert "".join(split_scenes(run).validation) == validation
    assert {i.unit for i in DistillStage(run).inputs("superpoint")} == set(training)
    for row in predictor(run).methods.names:
        needed = {i.unit for i in EvaluateStage(run).inputs(row) if i.stage == "partition"}
        assert needed == set(validation)
        lifted = {
            i.unit.partition("/")[2] for i in EvaluateStage(run).inputs(row) if i.stage == "lift"
        }
        assert lifted == set(validation)


@pytest.mark.parametrize(
    ("prompt", "maker"),
    [("a good photo of a bed", "render_object_image"), ("a bed in a room", "object_in_room")],
)
def test_the_pictures_of_a_class_are_none_that_a_teacher_learned_from(monkeypatch, prompt, maker):
    """Theirs are of the collection `teacher` (tools/train_teachers.py)."""
    asked: list[tuple] = []

    class Made(Exception):
        """Ends the drawing."""

    def draw(name, seed, **options):
        asked.append((name, seed, options.get("collection", "homes")))
        raise Made

    monkeypatch.setattr(f"pcdistill.homes.{maker}", draw)
    for seed in (0, 123_456):
        with pytest.raises(Made):
            RenderedImageGenerator()(prompt, "bed", seed)
    assert asked == [("bed", 0, "homes"), ("bed", 123_456, "homes")]
    assert SPLITS["pictures"].collection == "homes"
    tool = (REPOSITORY / "tools" / "train_teachers.py").read_text()
    assert 'build_home(seed, "teacher")' in tool
    assert 'collection="teacher"' in tool
