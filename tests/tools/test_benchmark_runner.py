"""The benchmark of the runner counts its units; that of scale multiplies what a run took."""

from __future__ import annotations

import pytest

from pcdistill.pipeline import Dependency, Stage, Workspace
from pcdistill.pipeline.workspace import UnitRecord
from tools.benchmarks import runner, scale


def test_all_units_are_made_and_found_again(tmp_path):
    made = runner.work_on(tmp_path / "run", 20)
    again = runner.work_on(tmp_path / "run", 20)
    assert (made["done"], made["skipped"]) == (20, 0)
    assert (again["done"], again["skipped"]) == (0, 20)
    assert again["peak_mib"] > 10


class Scenes(Stage):
    name, version = "ingest", 1

    def __init__(self, run):
        pass

    def units(self):
        return ("a", "b")

    def settings(self, unit):
        return {}

    def outputs(self, unit):
        return ()

    def work(self, task, report):
        return ""


class Lift(Scenes):
    name = "lift"

    def inputs(self, unit):
        return (Dependency("ingest", unit),)


def test_a_stage_costs_what_its_units_took_and_reads_what_they_need(tmp_path):
    workspace = Workspace(tmp_path)
    for stage, seconds, size in (("ingest", 2.0, 100), ("lift", 5.0, 7)):
        for unit in ("a", "b"):
            record = UnitRecord("f", "done", "", seconds, {f"{stage}/{unit}": size}, {})
            workspace.write_record(stage, unit, record)
    assert scale.measured_cost(workspace, Scenes(None)) == scale.StageCost(4.0, 200, 0)
    assert scale.measured_cost(workspace, Lift(None)) == scale.StageCost(10.0, 14, 200)
    workspace.record_path("lift", "b").unlink()
    with pytest.raises(SystemExit, match="lift b is not done"):
        scale.measured_cost(workspace, Lift(None))


def test_a_data_set_of_more_scenes_costs_more():
    """Twice the scenes of twice the points and frames: lift eight times, writing four times."""
    measured = scale.DataSet("measured", 2, 1, 10, 1000, 1)
    larger = scale.DataSet("larger", 4, 2, 20, 2000, 1)
    costs = {
        "ingest": scale.StageCost(3600.0, scale.GIB, 0),
        "lift": scale.StageCost(3600.0, scale.GIB, scale.GIB),
        "distill": scale.StageCost(3600.0, scale.GIB, scale.GIB),
        "report": scale.StageCost(3600.0, 0, 0),
    }
    lines = scale.table(larger, costs, measured.amounts, (36.0, 9.0), 2).splitlines()
    assert lines[4:] == [
        "| ingest | frames | 4.0 | 4.0 | 0.0 | 2.0 |",
        "| lift | views | 8.0 | 4.0 | 4.0 | 4.0 |",
        "| distill | visits | 4.0 | 1.0 | 4.0 | 4.0 |",
        "| report | nothing | 1.0 | 0.0 | 0.0 | 1.0 |",
        "| other teachers, 36 + 9 s an image | frames | 1 | | | 0 |",
    ]
