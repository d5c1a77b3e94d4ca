"""A second run takes its scores from the first one's table: nothing is drawn, nothing is scored."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcdistill.artifacts import collect_table, load_capability, read_scores
from pcdistill.cli.app import run_command
from pcdistill.errors import ConfigError
from pcdistill.pipeline import write_table
from pcdistill.pipeline.artifact_files import read_json
from pcdistill.pipeline.capability_files import read_table
from pcdistill.stages.score import ScoreStage
from pcdistill.stages.synthesize import SynthesizeStage
from tests.stages.followed import Outcomes, follows
from tests.stages.test_capability_by_hand import score
from tests.stages.toy import TEACHERS, VOCABULARY, ToyTeacher, toy_run, work


@pytest.fixture
def measured(tmp_path):
    """A run that measured its teachers, and the file of its table."""
    run = score(tmp_path / "first")
    file = tmp_path / "table.json"
    write_table(file, collect_table(run.workspace, TEACHERS))
    return run, file


def second_run(folder, table, **sections):
    run = toy_run(folder, score={"table": str(table)}, **sections)

    class NotUsed:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was asked for")

    run.generator = run.segmenter = NotUsed()
    return run


def test_nothing_is_drawn_or_scored_and_all_is_known(measured, tmp_path):
    first, file = measured
    run = second_run(tmp_path / "second", file)
    assert SynthesizeStage(run).units() == ()
    for teacher in TEACHERS:
        assert ScoreStage(run).inputs(teacher) == ()
        assert f"from {file}" in work(ScoreStage, run, teacher)
        known = read_scores(run.workspace, teacher)
        assert known.scores == read_scores(first.workspace, teacher).scores
        assert known.origin == str(file)
    here, there = (load_capability(r.workspace, TEACHERS, VOCABULARY) for r in (run, first))
    assert here.equal(there)
    again = tmp_path / "again.json"
    write_table(again, collect_table(run.workspace, TEACHERS))
    assert again.read_bytes() == file.read_bytes()


def test_it_is_measured_anew_where_a_run_says_so_or_no_table_has_it(measured, tmp_path):
    for value in ("measure", "auto"):
        run = toy_run(tmp_path / value, score={"table": value})
        assert SynthesizeStage(run).units() == VOCABULARY
        assert [needed.unit for needed in ScoreStage(run).inputs(TEACHERS[0])] == list(VOCABULARY)


@follows("score.table")
def test_table(tmp_path) -> Outcomes:
    """Each run has the scores of its own table."""
    for value in (True, False):
        first = score(tmp_path / str(value), score={"pooled": value})
        file = tmp_path / f"{value}.json"
        table = collect_table(first.workspace, TEACHERS)
        if value:  # as if every image had been found wholly
            table = table_with(table, lambda found: found._replace(intersections=found.unions))
        write_table(file, table)
        run = second_run(tmp_path / "second", file)
        work(ScoreStage, run, TEACHERS[0])
        found = read_json(run.workspace.capability(TEACHERS[0]))["capability"]
        yield set(found.values()) == {1.0}, value


def table_with(table, change):
    rows = {
        name: replace(row, overlaps={w: change(o) for w, o in row.overlaps.items()})
        for name, row in table.teachers.items()
    }
    return replace(table, teachers=rows)


def test_sums_are_made_as_the_second_run_says(measured, tmp_path):
    _, file = measured
    run = second_run(tmp_path / "pooled", file)
    pooled = toy_run(tmp_path / "own", score={"table": str(file), "pooled": True})
    expected = score(tmp_path / "measured", score={"pooled": True})
    for one in (run, pooled):
        work(ScoreStage, one, TEACHERS[0])
    here, own, there = (
        read_json(r.workspace.capability(TEACHERS[0]))["capability"]
        for r in (run, pooled, expected)
    )
    assert own == there != here


def test_another_table_makes_scores_stale(measured, tmp_path):
    _, file = measured
    before = ScoreStage(second_run(tmp_path / "second", file)).settings(TEACHERS[0])
    write_table(file, table_with(read_table(file), lambda o: o._replace(intersections=o.unions)))
    assert ScoreStage(second_run(tmp_path / "second", file)).settings(TEACHERS[0]) != before


def test_a_table_of_others_is_refused(measured, tmp_path):
    _, file = measured
    run = second_run(tmp_path / "second", file)

    class Other(ToyTeacher):
        provenance = {"revision": "2"}  # noqa: RUF012

    run.teacher = {name: Other(name) for name in TEACHERS}.__getitem__
    with pytest.raises(ConfigError) as caught:
        ScoreStage(run)
    assert str(caught.value) == (
        f"score.table is '{file}', which has scores of 'demo-masks' with revision 1, but the run "
        "has 2; set score.table: measure, or name a table of this run's teachers, words and text "
        "encoder"
    )
    with pytest.raises(ConfigError, match="but there is no such file; expected auto, measure or"):
        ScoreStage(second_run(tmp_path / "third", tmp_path / "absent.json"))


def test_the_command_prints_scores_with_their_intervals_and_writes_the_table(tmp_path, capsys):
    run = score(tmp_path)
    (run.workspace.root / "config.yaml").write_text("run: {teachers: [demo-masks, demo-dense]}\n")
    file = tmp_path / "out.json"
    assert run_command(["capability", str(run.workspace.root), "--out", str(file)]) == 0
    said = capsys.readouterr().out
    scored = read_scores(run.workspace, "demo-masks")
    low, high = scored.scores.overlaps["bed"].interval()
    mean = scored.capability()["bed"]
    assert f"{100 * mean:.0f} [{100 * low:.0f}, {100 * high:.0f}]" in said
    assert read_table(file) == collect_table(run.workspace, TEACHERS)
    assert str(file) in said


def test_an_unscored_run_is_a_sentence(tmp_path, capsys):
    run = toy_run(tmp_path)
    run.workspace.root.mkdir(parents=True)
    (run.workspace.root / "config.yaml").write_text("run: {teachers: [demo-masks]}\n")
    assert run_command(["capability", str(run.workspace.root)]) == 2
    assert "is missing; run the stage that makes it" in capsys.readouterr().err
