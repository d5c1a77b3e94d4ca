"""Ctrl-C, SIGTERM, a closed terminal, a closed pipe: one sentence, and the next run goes on."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from tests.faults.preparations import attach_terminal, print_to

GOES_ON = "the same command goes on where it was"


@pytest.mark.parametrize(
    ("fault", "number", "stage", "sentence"),
    [
        ("SIGTERM", signal.SIGTERM, "lift", f"ended, because SIGTERM came; {GOES_ON}"),
        ("Ctrl-C", signal.SIGINT, "evaluate", f"interrupted; {GOES_ON}"),
    ],
)
def test_a_signal_ends_a_run_with_one_sentence(trial, fault, number, stage, sentence):
    trial.begin_without(stage)
    child = trial.start()
    child.wait_for(rf"(?m)^{stage}: ")
    child.send(number, group=True)
    ended = child.end()
    assert ended.status == 128 + number
    assert ended.sentence == sentence
    assert not list((trial.workspace / "running").glob("*.json"))
    assert not list(trial.workspace.rglob("*.part*"))
    trial.keeps_its_promises(fault, sentence)


def test_ctrl_c_twice_ends_at_once_and_leaves_no_half_file(trial):
    trial.begin_without("lift", "fuse")
    child = trial.start("--jobs", 2)
    child.wait_for(r"(?m)^lift: ")
    child.send(signal.SIGINT, group=True)
    child.send(signal.SIGINT, group=True)
    ended = child.end()
    assert ended.status in (130, -signal.SIGINT)
    assert ended.errors in ("", f"interrupted; {GOES_ON}\n")
    trial.keeps_its_promises("Ctrl-C twice", "nothing, or: interrupted; " + GOES_ON)


def test_a_pipe_that_nobody_reads(trial):
    trial.begin_without("lift", "fuse")
    fifo = trial.folder / "pipe"
    os.mkfifo(fifo)
    child = trial.start(prepare=partial(print_to, fifo))
    with fifo.open() as reader:
        for line in reader:
            if line.startswith("lift"):
                break
    ended = child.end()
    assert ended.status == 141
    assert ended.sentence == f"ended, because nobody reads what it prints any more; {GOES_ON}"
    trial.keeps_its_promises("closed pipe", ended.sentence)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_is_closed(trial, nohup):
    trial.begin_without("lift", "fuse")
    ours, theirs = os.openpty()
    child = trial.start(prepare=partial(attach_terminal, os.ttyname(theirs), nohup=nohup))
    printed = ""
    while "lift" not in printed:
        printed += os.read(ours, 1000).decode()
    os.close(theirs)
    os.close(ours)
    ended = child.end()
    if nohup:
        assert (ended.status, ended.errors) == (0, "")
        trial.keeps_its_promises("closed terminal under nohup", "nothing: the run goes on")
    else:
        assert ended.sentence == f"ended, because SIGHUP came; {GOES_ON}"
        assert ended.status == 129
        trial.keeps_its_promises("closed terminal", ended.sentence)
