"""What is typed on a command line, for a whole run or for one stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.stages.command import gathered, in_sentences, parse_shard

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((REPOSITORY / "preprocessing").glob("*.py"))


def test_a_shard_is_number_and_count():
    assert parse_shard("0/1") == (0, 1)
    assert parse_shard("3/16") == (3, 16)


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/0", "1/2/3"])
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigError, match="expected i/n with 0 <= i < n"):
        parse_shard(text)


def test_a_mistake_is_one_sentence_and_status_2(capsys):
    def mistake():
        raise ArtifactError("x.json is missing; run the stage")

    assert in_sentences(mistake) == 2
    assert capsys.readouterr().err == "error: x.json is missing; run the stage\n"


def test_an_interruption_says_how_to_go_on(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert in_sentences(interrupted) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


def test_a_bug_stays_a_traceback():
    def bug():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_sentences(bug)


@pytest.mark.parametrize(
    "typed",
    [
        "demo --set a=1 b=2 c=-3 --jobs 2",
        "demo --set a=1 --set b=2 c=-3 --jobs 2",
        "demo --set a=1 --jobs 2 --set b=2 --set c=-3",
        "demo --set=a=1 --jobs 2 --set=b=2 --set c=-3",
    ],
)
def test_settings_add_up_however_they_are_spread(typed):
    expected = ["demo", "--set", "a=1", "b=2", "c=-3", "--jobs", "2"]
    assert gathered(typed.split(), "--set") == expected


def test_a_command_line_without_settings_is_left_alone():
    typed = ["run", "config.yaml", "--scan", "set"]
    assert gathered(typed, "--set") == typed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_stage_script_explains_itself(script):
    shown = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=False, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    for option in ("--config", "--shard", "--jobs", "--redo", "--set"):
        assert option in shown.stdout
