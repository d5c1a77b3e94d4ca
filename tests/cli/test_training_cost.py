"""Cost of a training: steps and sizes are counted, a step is timed on scenes of middle size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.cli.app import run_command
from pcdistill.cli.estimate import in_words
from pcdistill.cli.training_cost import TrainingCost, estimate_training, middle_scenes
from pcdistill.errors import ArtifactError
from pcdistill.scenes import Scene
from tests.stages.toy import store, toy_run, write_superpoints

POINTS = {"home-train-0": 400, "home-train-1": 500, "home-train-2": 2000}


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 10**6), min_size=1), st.integers(1, 9))
def test_scenes_of_middle_size_are_taken(points, count):
    chosen = middle_scenes(points, count)
    assert len(chosen) == count
    assert set(chosen) <= set(points)
    ordered = sorted(points.values())
    if count < len(points):
        assert len(set(chosen)) == count
        taken = sorted(points[name] for name in chosen)
        below = sum(value < taken[0] for value in ordered)
        above = sum(value > taken[-1] for value in ordered)
        assert below <= (len(ordered) - count + 1) // 2
        assert above <= (len(ordered) - count + 1) // 2 + 1


def stored_run(folder, **distill):
    settings = {
        "students": ["superpoint", "superpoint+ensemble"],
        "architecture": "MinkUNet14A",
        "width": 0.125,
        "voxel_size": 0.1,
        "batch_size": 2,
        "epochs": 5,
        **distill,
    }
    run = toy_run(folder, ingest={"train": 3}, distill=settings)
    generator = torch.Generator().manual_seed(0)
    for name, count in POINTS.items():
        points = torch.rand(count, 3, generator=generator) * 3
        store(run, Scene(name=name, points=points))
    write_superpoints(run, "home-train-0", [n // 10 for n in range(400)])
    return run


def test_steps_and_sizes(tmp_path):
    run = stored_run(tmp_path)
    plain, ensemble = estimate_training(run)
    assert (plain.student, ensemble.student) == ("superpoint", "superpoint+ensemble")
    for cost in (plain, ensemble):
        assert (cost.scenes, cost.steps) == (3, 5 * 2)  # two steps of at most two scenes
        assert cost.seconds_per_step > 0
        assert cost.hours == pytest.approx(10 * cost.seconds_per_step / 3600)
    assert plain.disk_bytes > 0
    assert ensemble.memory_gib == plain.memory_gib  # scores of the ensemble are in a file
    assert 0.05 < plain.memory_gib < 10


def test_without_a_stored_scene_it_is_a_sentence(tmp_path):
    run = toy_run(tmp_path)
    with pytest.raises(ArtifactError) as caught:
        estimate_training(run)
    assert str(caught.value) == (
        f"{run.workspace.root}: no scene to learn from is stored yet, so that no step can be "
        "timed; run it with --only ingest partition first"
    )


def test_nothing_is_written(tmp_path):
    run = stored_run(tmp_path)
    before = sorted(run.workspace.root.rglob("*"))
    estimate_training(run)
    assert sorted(run.workspace.root.rglob("*")) == before


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.3, "8 min"), (36.0, "15.0 h"), (180.0, "3.1 days")]
)
def test_it_is_said_in_units_for_people(seconds, said):
    cost = TrainingCost("superpoint", 3, 1500, seconds, 1.25, 2**29)
    assert in_words(cost) == (
        "superpoint",
        "3",
        "1500",
        f"{seconds:.2f}",
        said,
        "1.2 GiB",
        "0.50 GiB",
    )


def test_the_command_asks_for_scenes_first(tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text(f"run: {{workspace: {tmp_path / 'run'}}}\n")
    assert run_command(["run", str(config), "--estimate"]) != 0
    said = capsys.readouterr()
    assert "no scene to learn from is stored yet" in said.err
    assert not (tmp_path / "run").exists()
