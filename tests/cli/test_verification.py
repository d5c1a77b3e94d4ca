"""`status --verify` and `run --verify`: lines, marks and exit status."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pcdistill.cli import execute, verification
from pcdistill.cli.app import run_command
from pcdistill.cli.execute import execute_run
from pcdistill.cli.verification import print_verification
from pcdistill.pipeline import text_console
from pcdistill.pipeline.artifact_files import read_json, write_json
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.runner import run_stages
from tests.pipeline.test_integrity import flip
from tests.pipeline.test_runner import STAGES, times_worked


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A finished run of toy stages, which the commands take for all stages."""
    config = RunConfig(run=GeneralConfig(workspace=str(tmp_path / "work")))
    run_stages(config, STAGES)
    monkeypatch.setattr("pcdistill.stages.STAGES", STAGES)
    return config


def verify(config: RunConfig) -> tuple[bool, list[str]]:
    run, stream = RunContext(config), io.StringIO()
    stages = [stage(run) for stage in STAGES]
    sound = print_verification(text_console(stream), run.workspace, stages)
    return sound, stream.getvalue().splitlines()


def test_a_whole_workspace_is_status_0(config, capsys):
    assert run_command(["status", config.run.workspace, "--verify"]) == 0
    assert "verified 0.0 MiB: every file is as it was written" in capsys.readouterr().out


def test_damage_is_status_1_and_made_anew_by_the_next_run(config, capsys):
    root = Path(config.run.workspace)
    flip(root / "letters" / "b")
    assert run_command(["status", config.run.workspace, "--verify"]) == 1
    said = capsys.readouterr().out
    assert "letters b: letters/b is damaged, its content was changed; the next run" in said
    assert "the next run makes anew: 1 with damage and 1 more made of that\n" in said
    assert "verified 0.0 MiB: 1 damaged\n" in said
    assert run_command(["status", config.run.workspace]) == 0
    assert run_stages(config, STAGES).done == 2


def test_run_verify_makes_damage_anew_at_once(config, monkeypatch):
    root = Path(config.run.workspace)
    flip(root / "letters" / "b")
    for name in ("check_run", "save_scan_index", "print_summary", "open_artifacts", "FinishedRun"):
        monkeypatch.setattr(execute, name, lambda *_, **__: None)
    monkeypatch.setattr(execute, "STAGES", STAGES)
    stream = io.StringIO()
    assert execute_run(config, text_console(stream), jobs=1) == 0
    assert times_worked(root, "b") == 1
    assert execute_run(config, text_console(stream), jobs=1, verify=True) == 0
    assert "letters/b is damaged" in stream.getvalue()
    assert [times_worked(root, unit) for unit in ("a", "b", "word")] == [1, 2, 2]
    assert (root / "letters" / "b").read_text() == "b"


def test_the_option_reaches_the_run(config, monkeypatch):
    asked = []
    monkeypatch.setattr(execute, "execute_run", lambda *_, **options: asked.append(options) or 0)
    for words in ([], ["--verify"]):
        assert run_command(["run", config.run.workspace, *words]) == 0
    assert [options["verify"] for options in asked] == [False, True]


def test_what_was_found_before_ctrl_c_is_marked(config, monkeypatch):
    root = Path(config.run.workspace)
    flip(root / "letters" / "a")
    whole = verification.verify_workspace

    def interrupted(*arguments):
        yield next(whole(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify_workspace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify(config)
    assert run_stages(config, STAGES).done == 2


def test_files_without_checksum_are_counted_and_no_damage(config):
    for file in (Path(config.run.workspace) / "manifest").rglob("*.json"):
        write_json(file, read_json(file) | {"checksums": {}})
    sound, lines = verify(config)
    assert sound
    assert lines[0].startswith("5 files have no checksum, because an earlier version wrote them")


def test_a_manifest_that_cannot_be_written_leaves_the_lines(config, monkeypatch):
    flip(Path(config.run.workspace) / "word")

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "manifest")

    monkeypatch.setattr(verification, "mark_damaged", refuse)
    sound, lines = verify(config)
    assert not sound
    assert lines[0].startswith("word word: word is damaged")
    assert lines[1].startswith("nothing is marked, the damaged files stay: manifest: cannot be")
