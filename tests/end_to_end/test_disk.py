"""What a run says it will write, before the first stage, against what it then wrote."""

from __future__ import annotations

import re

import pytest

from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.workspace import Workspace
from pcdistill.stages import STAGES


@pytest.mark.parametrize("known", [False, True])
def test_every_stage_writes_what_it_was_expected_to_within_a_factor_of_two(
    tiny_run, tmp_path, known
):
    """Before anything is there, and when what the stage reads is."""
    run, written = RunContext(load_config(tiny_run / "config.yaml")), Workspace(tiny_run)
    run.workspace = Workspace(tiny_run if known else tmp_path)
    wrong = {}
    for stage in STAGES:
        expected = sum(stage(run).estimate(unit) for unit in stage(run).units())
        records = [written.record(stage.name, unit) for unit in stage(run).units()]
        size = sum(sum(record.outputs.values()) for record in records)
        factor = expected / size
        if stage.name == "score":  # a few numbers
            assert size < 2**20
        elif stage.name == "distill":  # half-way states are gone by now
            assert 1 < factor < 6
        elif not 0.5 < factor < 2:
            wrong[stage.name] = factor
    assert not wrong


def test_the_run_says_once_what_it_will_write(tiny_run):
    printed = (tiny_run / "stdout.txt").read_text()
    lines = [line for line in printed.splitlines() if "will write" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        r"will write about [\d.]+ [MG]iB \(ingest .*, lift .*, report .*\); [\d.]+ GiB are free",
        lines[0],
    )
    assert printed.index(lines[0]) < printed.index("ingest: 3 of 3 to do")
