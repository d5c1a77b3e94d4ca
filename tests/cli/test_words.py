"""What all commands share: repeated options, and mistakes as sentences."""

from __future__ import annotations

import gc

import pytest

from pcdistill.cli.words import (
    merge_repeated_option,
    run_with_error_reporting,
    uncollected,
    values_of,
)
from pcdistill.errors import ArtifactError
from pcdistill.pipeline.stop_signal import StoppedError


def test_a_mistake_is_one_sentence_and_status_2(capsys):
    def mistake():
        raise ArtifactError("x.json is missing; run the stage")

    assert run_with_error_reporting(mistake) == 2
    assert capsys.readouterr().err == "error: x.json is missing; run the stage\n"


def test_an_interruption_says_how_to_go_on(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert run_with_error_reporting(interrupted) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


def test_a_signal_says_how_to_go_on_unless_the_terminal_is_closed(capsys, monkeypatch):
    def stopped():
        raise StoppedError("SIGHUP came", 129)

    sentence = "ended, because SIGHUP came; the same command goes on where it was\n"
    assert run_with_error_reporting(stopped) == 129
    assert capsys.readouterr().err == sentence

    def refuse(text):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr.write", refuse)
    assert run_with_error_reporting(stopped) == 129


def test_a_bug_stays_a_traceback():
    def bug():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with_error_reporting(bug)


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
    assert merge_repeated_option(typed.split(), "--set") == expected


def test_a_command_line_without_settings_is_left_alone():
    typed = ["run", "config.yaml", "--scan", "set"]
    assert merge_repeated_option(typed, "--set") == typed


def test_values_of_an_option_wherever_it_stands():
    typed = ["run", "a.yaml", "--only", "lift", "fuse", "--jobs", "2", "--only=score", "--redo"]
    assert values_of(typed, "--only") == ["lift", "fuse", "score"]
    assert values_of(typed, "--jobs") == ["2"]
    assert values_of(typed, "--from") == []


def test_the_collector_rests_and_works_again_whatever_happens():
    assert gc.isenabled()
    with pytest.raises(RuntimeError), uncollected():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
