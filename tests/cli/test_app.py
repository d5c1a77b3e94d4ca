"""The command itself: its version, its help, and names that are mistyped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pcdistill import __version__
from pcdistill.cli import run_command
from pcdistill.cli.app import COMMANDS
from pcdistill.pipeline.stage_names import STAGE_NAMES


def test_version(capsys):
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out == f"pcdistill {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"), [("qurey", "query"), ("exprot", "export"), ("evalute", "evaluate")]
)
def test_a_mistyped_command_is_told_what_it_may_mean(capsys, typed, meant):
    assert run_command([typed, "runs/demo", "a chair"]) == 2
    assert capsys.readouterr().err == f"error: unknown command '{typed}'; did you mean '{meant}'?\n"


def test_a_command_like_none_is_told_all_of_them(capsys):
    assert run_command(["xyz"]) == 2
    assert f"expected one of: {', '.join(COMMANDS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "typed", "meant"),
    [
        (["--only", "distil"], "distil", "distill"),
        (["--only", "lift", "--only", "scroe"], "scroe", "score"),
        (["--from", "fus"], "fus", "fuse"),
        (["--from=reprt"], "reprt", "report"),
    ],
)
def test_a_mistyped_stage_is_told_before_anything_is_read(capsys, options, typed, meant):
    assert run_command(["run", "nowhere.yaml", *options]) == 2
    assert capsys.readouterr().err == f"error: unknown stage '{typed}'; did you mean '{meant}'?\n"


def test_a_file_may_stand_behind_the_first_stage(capsys, tmp_path):
    file = str(tmp_path / "nowhere.yaml")
    assert run_command(["run", "--from", "fuse", file]) == 2
    assert f"error: {file} does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_stages(capsys, shell):
    with pytest.raises(SystemExit) as ended:
        run_command(["--tyro-print-completion", shell])
    assert not ended.value.code
    script = capsys.readouterr().out
    for word in (*COMMANDS, *STAGE_NAMES, "workspace", "redo"):
        assert word in script


@pytest.mark.parametrize("option", ["--only", "--from"])
def test_help_lists_the_stages_in_their_order(capsys, option):
    with pytest.raises(SystemExit) as ended:
        run_command(["run", "--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out.replace("│", " ").split()
    after = " ".join(words[words.index(option, words.index("options")) :])
    assert ", ".join(STAGE_NAMES) in after


def test_no_words_at_all_are_a_request_for_help(capsys):
    with pytest.raises(SystemExit):
        run_command([])
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in shown] == []


def test_an_unknown_option_is_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(["run", "nowhere.yaml", "--onyl", "fuse"])
    assert ended.value.code == 2
    assert "--only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["query", "runs/demo", "a chair", "--top-k", "0"], "--top-k is 0, expected at least 1"),
        (["query", "runs/demo", "a chair", "--top-k", "-1"], "--top-k is -1, expected at least 1"),
        (["demo", "--jobs", "-1"], "--jobs is -1, expected 1 or more, or 0 for one per core"),
    ],
)
def test_numbers_that_cannot_be_are_refused(capsys, monkeypatch, tmp_path, words, said):
    monkeypatch.chdir(tmp_path)
    assert run_command(words) == 2
    assert capsys.readouterr().err == f"error: {said}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show_are_no_traceback(tmp_path, encoding):
    """Files may be called anything but NUL and slash; the rest of the line is worth reading."""
    config = tmp_path / "run.yaml"
    config.write_text("ingest: {train: 1, validation: 1}\n")
    command = [sys.executable, "-m", "pcdistill.cli", "status", str(config), "--workspace"]
    ran = subprocess.run(
        [*command, os.fsdecode(b"caf\xe9")],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"/caf\\udce9" in ran.stdout
    assert b"distill" in ran.stdout
