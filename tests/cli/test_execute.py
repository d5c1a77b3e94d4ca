"""What is said of a run, and which share of it is done."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pcdistill.cli import execute as command_module
from pcdistill.cli.execute import parse_shard, print_summary
from pcdistill.errors import ConfigError
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.pipeline.config_loading import config_from_dict
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.summary import RunSummary
from tests.fixtures.runs import finished_run


def test_a_shard_is_number_and_count():
    assert parse_shard("0/1") == (0, 1)
    assert parse_shard("3/16") == (3, 16)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/0", "1/2/3"])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="expected i/n with 0 <= i < n"):
        parse_shard(text)


@pytest.fixture
def measured(tmp_path) -> RunContext:
    """A run of which three rows were measured, and whose report shows them."""
    run = RunContext(config_from_dict({"run": {"workspace": str(tmp_path)}}, "test"))
    for name, miou in (("average", 30.0), ("fused", 38.2), ("student:superpoint", 35.0)):
        write_result(run, name, miou, "seen points")
    rows = [{"name": "average", "miou": 30.0}, {"name": "fused", "miou": 38.2}]
    rows.append({"name": "student:superpoint", "miou": 35.0})
    write_json(run.workspace.report / "report.json", {"rows": rows})
    (run.workspace.report / "index.html").write_text("page")
    return run


def write_result(run: RunContext, name: str, miou: float, protocol: str) -> None:
    result = {"name": name, "miou": miou, "macc": miou + 5, "protocol": protocol}
    write_json(run.workspace.evaluation(name) / "result.json", result)


def printed(run: RunContext, questions: bool = False, **counts: int) -> str:
    stream = io.StringIO()
    console, done = Console(file=stream, width=200), RunSummary(**{"done": 1, **counts})
    print_summary(console, finished_run(run), done, questions=questions)
    return stream.getvalue()


def test_units_that_other_runs_made_are_counted_apart(measured):
    assert "1 done, 2 up to date, 0 failed in 0 s" in printed(measured, skipped=2)
    others = printed(measured, done=0, by_others=3, skipped=2)
    assert "0 done, 3 made by other runs, 2 up to date, 0 failed in 0 s" in others
    assert "nothing to do: all 2 units" in printed(measured, done=0, skipped=2)


def test_the_table_shows_what_was_measured_last_and_marks_an_older_report(measured):
    """The report still says 38.2; a row that was not measured anew stands under its protocol."""
    for name in ("average", "fused"):
        write_result(measured, name, 20.4 if name == "average" else 35.4, "all points")
    shown = printed(measured)
    assert "35.4" in shown
    assert "38.2" not in shown
    first, second = shown.split("measured: ")[1:]
    assert first.startswith("all points")
    assert "fused" in first
    assert "student" not in first
    assert second.startswith("seen points")
    assert "student:superpoint" in second
    assert "index.html, which is older than these numbers (--only report)" in shown


def test_numbers_that_were_measured_have_a_column_and_others_none(measured):
    assert "95 %" not in printed(measured)
    more = {"interval": [31.24, 39.0], "overall_accuracy": 61.23, "groups": {"head": {"miou": 7.7}}}
    more["first_classes"] = {"40": {"miou": 8.8}}
    path = measured.workspace.result("fused")
    write_json(path, {**read_json(path), **more})
    shown = printed(measured)
    for words in ("95 %", "31.2 to 39.0", "points %", "61.2", "head %", "7.7", "K = 40 %", "8.8"):
        assert words in shown


def test_a_report_of_the_same_numbers_is_not_called_old(measured):
    shown = printed(measured)
    assert shown.count("measured: ") == 1
    assert "index.html\n" in shown


def test_a_demo_whose_student_is_behind_says_how_to_train_longer(measured):
    longer = "student:superpoint stops while it still learns; train it longer: pcdistill demo"
    assert longer in printed(measured, questions=True)
    assert "train it longer" not in printed(measured)
    write_result(measured, "student:superpoint", 39.0, "seen points")
    assert "train it longer" not in printed(measured, questions=True)


def test_what_the_numbers_say_follows_the_table(measured, monkeypatch):
    """Row names in brackets are no markup."""
    said = ("fused: ahead of average (+8.2 [1.0, 9.0])", "in brackets [/red] the interval")
    monkeypatch.setattr(command_module, "conclusions", lambda run: said)
    for questions in (False, True):
        lines = printed(measured, questions).splitlines()
        assert [line for line in lines if line in said] == list(said)


def test_results_of_an_older_version_are_shown_and_not_compared(measured):
    """They have no confusion matrices."""
    assert "38.2" in printed(measured)
    assert "[" not in printed(measured)
