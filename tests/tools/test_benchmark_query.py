"""The benchmark of questions asks a scene and the command, and refuses what is no scene."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest

from tools.benchmarks import query


def test_it_tells_what_it_measured(monkeypatch):
    commands = []

    def process(command, **how):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(query.subprocess, "run", process)
    found = query.run(argparse.Namespace(points=20_000, rounds=1, run=Path("given")))
    assert set(found) == {
        *("points", "load_s", "first_s", "scores_s", "places_s"),
        *("command_s", "bare_s", "torch_s", "run"),
    }
    assert (found["points"], found["run"]) == (20_000, "given")
    asked = [command[3:] for command in commands if "pcdistill.cli" in command]
    assert ["query", "given", "couch"] in asked
    assert ["query", "given", "couch", "--draw", "none"] in asked


def test_too_few_points_are_refused():
    with pytest.raises(SystemExit, match="--points is 10, expected at least 1000"):
        query.run(argparse.Namespace(points=10, rounds=1, run=None))
