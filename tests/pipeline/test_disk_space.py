"""What a run will write: said once before the work, refused where it does not fit."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from pcdistill.artifacts import estimate_sizes
from pcdistill.errors import ConfigError
from pcdistill.homes import home_scene
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.disk_space import SPARE_BYTES, check_disk_space, estimate_new_bytes
from pcdistill.pipeline.progress import Progress
from pcdistill.pipeline.runner import run_stages
from pcdistill.pipeline.stage import Task
from pcdistill.scenes import Scene, write_ply, write_scene
from pcdistill.stages import STAGES
from pcdistill.stages.distill import DistillStage
from pcdistill.stages.fuse import FuseStage
from pcdistill.stages.partition import PartitionStage
from pcdistill.training import student_training as training_module
from tests.pipeline.test_runner import STAGES as LETTERS
from tests.pipeline.test_runner import Letters, Word
from tests.stages.test_fuse import make_run, work, write_lifted

MIB = 2**20
Usage = namedtuple("Usage", "total used free")


class Listening(Progress):
    """Keeps the lines that a run prints."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def print_line(self, text):
        self.lines.append(text)


@pytest.fixture
def free(monkeypatch):
    """Make the disk as full as a test wants it."""

    def leave(size):
        usage = Usage(2**60, 0, size)
        monkeypatch.setattr("pcdistill.pipeline.disk_space.shutil.disk_usage", lambda path: usage)

    return leave


@pytest.fixture
def config(tmp_path):
    (tmp_path / "work").mkdir()
    return RunConfig(run=GeneralConfig(workspace=str(tmp_path / "work")))


class ThreeMib:
    def estimate(self, unit):
        return 3 * MIB


class BigLetters(ThreeMib, Letters):
    pass


class BigWord(ThreeMib, Word):
    pass


class SixBytes(Letters):
    def estimate(self, unit):
        return 6


class GrowingWord(Word):
    def estimate(self, unit):
        return (16 if (self.root / "letters").exists() else 1) * MIB


BIG = (BigLetters, BigWord)  # four units, and one


def test_the_estimate_of_all_stages_is_printed_once_with_the_free_disk(config, free):
    free(5 * 2**30)
    heard = Listening()
    run_stages(config, BIG, progress=heard)
    line = "will write about 15.0 MiB (letters 12.0 MiB, word 3.0 MiB); 5.0 GiB are free"
    assert heard.lines == [line]


def test_only_what_is_left_to_do_is_counted(config, free):
    free(5 * 2**30)
    heard = Listening()
    run_stages(config, BIG, only=["letters"], shard=(1, 4))
    run_stages(config, BIG, only=["letters"], progress=heard)
    assert heard.lines == ["will write about 9.0 MiB (letters 9.0 MiB); 5.0 GiB are free"]
    run_stages(config, BIG)
    heard = Listening()
    run_stages(config, BIG, progress=heard)
    assert heard.lines == []


@pytest.mark.parametrize("missing", [1, 0])
def test_a_run_begins_only_if_all_of_it_fits(config, free, missing):
    """The last stage alone would not matter: its disk is looked at before the first."""
    free(15 * MIB + SPARE_BYTES - missing)
    if not missing:
        assert run_stages(config, BIG).done == 5
        return
    message = (
        r"work: the run will write about 15\.0 MiB \(letters 12\.0 MiB, word 3\.0 MiB\) but only "
        r"215\.0 MiB are free; free some space, set run\.workspace to a larger disk, or keep less "
        r"\(lift\.store_features, fuse\.store_point_features\)"
    )
    with pytest.raises(ConfigError, match=message):
        run_stages(config, BIG)
    assert not (RunContext(config).workspace.root / "letters").exists()


def test_what_is_replaced_needs_no_new_disk(config, free):
    run_stages(config, LETTERS)
    run = RunContext(config)
    workspace, letters = run.workspace, SixBytes(run)
    assert estimate_new_bytes(workspace, letters, ("a", "b")) == 2 * (
        6 - 1
    )  # each letter is a byte
    (workspace.root / "letters" / "b").unlink()
    assert estimate_new_bytes(workspace, letters, ("a", "b")) == 5 + 6
    free(SPARE_BYTES)
    assert check_disk_space(workspace, {"letters": 0}) == ""
    assert run_stages(config, LETTERS, redo=True).done == 5


def test_a_stage_is_refused_when_the_stages_before_it_made_more_than_was_expected(config, free):
    free(SPARE_BYTES + 14 * MIB)
    with pytest.raises(ConfigError, match=r"the run will write about 16\.0 MiB \(word 16"):
        run_stages(config, (Letters, GrowingWord))
    assert (RunContext(config).workspace.root / "letters" / "d").exists()


def test_points_are_those_stored_else_those_of_the_scans_header(tmp_path):
    scan = tmp_path / "scan"
    scan.mkdir()
    points = torch.rand(321, 3)
    write_ply(scan / "room.ply", points, faces=torch.tensor([[0, 1, 2]]))
    sections = {
        "run": {"workspace": str(tmp_path / "work")},
        "ingest": {"source": "scan", "path": str(scan)},
        "partition": {"min_size": 10},
    }
    run = RunContext(config_from_dict(sections, "test"))
    assert estimate_sizes(run).points("room") == 321
    assert estimate_sizes(run).superpoints("room") == 321 // 40 + 1
    write_scene(Scene("room", points[:300]), run.workspace.scene("room"))
    assert estimate_sizes(run).points("room") == 300
    assert estimate_sizes(run).points("in a list only") == 0
    whole = RunContext(replace(run.config, partition=replace(run.config.partition, method="none")))
    assert estimate_sizes(whole).superpoints("room") == 300


@pytest.mark.parametrize("header", [b"", b"ply\nformat ascii 1.0\n", b"\xff" * 9000])
def test_a_damaged_ply_leaves_the_guess_to_what_is_usual(tmp_path, header):
    scan = tmp_path / "scan"
    scan.mkdir()
    (scan / "room.ply").write_bytes(header)
    sections = {"ingest": {"source": "scan", "path": str(scan)}}
    run = RunContext(config_from_dict(sections, "test"))
    assert estimate_sizes(run).points("room") == 100_000


def test_learning_takes_what_its_estimate_says(tmp_path, monkeypatch):
    """Counted while it runs: half-way states are gone afterwards."""
    monkeypatch.setattr(training_module, "_STATE_EVERY", -1.0)
    scene = "home-train-0"
    home = home_scene(5, "train", frames=2, image_size=(48, 64))
    small = {"width": 0.25, "voxel_size": 0.3, "epochs": 8, "device": "cpu"}
    students = ["superpoint", "superpoint+ensemble"]
    run = make_run(tmp_path, home, scene, distill={"students": students, **small})
    work(PartitionStage, run, scene)
    write_lifted(run, scene, len(home.points), run.text_encoder.dimensions, 0.6)
    work(FuseStage, run, scene)
    for student in students:
        folder, limit = run.workspace.student(student), [0]

        def look(done, total, words, folder=folder, limit=limit):
            limit[0] = max(limit[0], sum(path.stat().st_size for path in folder.iterdir()))

        task = Task(student, DistillStage(run).inputs(student), "test")
        DistillStage(run).work(task, look)
        checkpoint = (
            run.workspace.checkpoint(student).stat().st_size
        )  # written beside the last state
        estimate = DistillStage(run).estimate(student)
        # headers of the files are not estimated
        assert estimate == pytest.approx(limit[0] + checkpoint, rel=0.02)


def test_every_stage_that_writes_more_than_numbers_has_an_estimate(tmp_path):
    sections = {"run": {"workspace": str(tmp_path)}, "ingest": {"train": 1, "validation": 1}}
    run = RunContext(config_from_dict(sections, "test"))
    stages = [stage(run) for stage in STAGES]
    silent = [s.name for s in stages if not sum(s.estimate(unit) for unit in s.units())]
    assert silent == ["score"]
