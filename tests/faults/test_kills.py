"""Processes killed at random moments of every stage: the next run goes on, nothing is lost."""

from __future__ import annotations

import random
import re
import signal
import time

import pytest

from pcdistill.pipeline import STAGE_NAMES
from tests.faults.child import Child
from tests.faults.trial import Trial

CHAINS = 7
"""Runs from nothing that are killed once in every stage; with nine stages more than 50 kills."""


def wait_within_stage(child: Child, stage: str, seconds: float) -> None:
    """Wait for some seconds, but not beyond the end of a stage, which may be quicker this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and re.findall(r"(?m)^(\w+): \d", child.printed)[-1:] == [stage]:
        time.sleep(0.002)


NO_PARENT = re.compile(
    r'Traceback \(most recent call last\):\n  File "<string>", line 1, in <module>\n'
    r".*multiprocessing/spawn\.py.*\n(?:  .*\n)+EOFError: Ran out of input\n"
)
"""What Python says in a worker that it is just beginning when the run is killed."""


def killed_in_every_stage(trial: Trial, chain: int, jobs: int) -> int:
    """Kill a run in its first stage, go on and kill it in the second, and so on; then finish.

    Args:
        trial: an empty workspace.
        chain: number; the moments of all chains together are spread over each stage.
        jobs: worker processes.

    Returns:
        how many kills met a process that was at work.
    """
    chance = random.Random(chain)
    kills = 0
    for stage in STAGE_NAMES:
        child = trial.start("--jobs", jobs)
        child.wait_for(rf"(?m)^{stage}: \d")
        moment = (chain + chance.random()) / CHAINS * trial.wanted.seconds[stage]
        wait_within_stage(child, stage, moment)
        child.send(signal.SIGKILL)
        ended = child.end()
        assert NO_PARENT.sub("", ended.errors) == "", ended.errors
        if ended.status == 0:  # too late: it was done already
            continue
        assert ended.status == -signal.SIGKILL
        kills += 1
        begun = re.findall(r"(?m)^(\w+): \d+ of", ended.output)[-1]
        trial.note("kill -9", "Killed", trial.true_status(), "goes on where it was", begun)
    trial.finish(trial.true_status())
    return kills


def test_a_run_that_is_killed_in_every_stage_loses_nothing(trial):
    assert killed_in_every_stage(trial, CHAINS // 2, jobs=1) >= len(STAGE_NAMES) - 1


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(CHAINS))
def test_runs_that_are_killed_at_other_moments_lose_nothing(trial, chain):
    kills = killed_in_every_stage(trial, chain, jobs=1 + chain % 2)
    assert kills >= len(STAGE_NAMES) - 1
