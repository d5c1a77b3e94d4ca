"""Several processes measure the student as one does, and one of them tells of the steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.distillation.rank_processes import on_ranks
from tests.stages.test_distill_by_hand import measured_epochs, with_validation
from tests.stages.toy import toy_run
from tests.stages.toy_students import SMALL, train

WATCHED = {"validate_every": 2, "epochs": 3, "log": "step", "answer": "best", "ema_decay": 0.5}


def learn(ranks, folder: str) -> None:
    run = toy_run(Path(folder), run={"seed": 0}, ingest={"train": 2}, distill={**SMALL, **WATCHED})
    train(run)


@pytest.mark.slow
def test_two_processes_measure_and_tell_what_one_does(tmp_path):
    found, steps = [], []
    for world in (1, 2):
        run = with_validation(tmp_path / str(world), **WATCHED)
        on_ranks(world, learn, str(tmp_path / str(world)))
        folder = run.workspace.student("superpoint")
        found.append(measured_epochs(run))
        lines = (folder / "steps.jsonl").read_text().splitlines()
        steps.append([json.loads(line) for line in lines])
        assert (folder / "last.safetensors").exists()
    assert list(found[0]) == [2, 3]
    assert found[1] == pytest.approx(found[0], abs=3.0)  # per cent; of 77 points one is 1.3
    assert [one["step"] for one in steps[1]] == [1, 2, 3]
    for key, same in (("loss", 1e-3), ("gradient_norm", 2e-2), ("voxels", 0)):  # in float32
        alone, together = ([one[key] for one in part] for part in steps)
        assert together == pytest.approx(alone, rel=same)
