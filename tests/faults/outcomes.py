"""The faults that are tried, and how they went, as docs/reliability.md tells it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FAULTS = {
    "kill -9": "of the run, at random moments of every stage, with one process and with two",
    "kill -9 of a worker": "one of two worker processes",
    "kill -9 of a Ray worker": "one of two actors of `--engine ray`",
    "SIGTERM": "to the run, as `kill` or a scheduler sends it",
    "closed terminal": "SIGHUP to the run and its workers",
    "closed terminal under nohup": "the run goes on, and what it prints goes nowhere",
    "closed pipe": "`pcdistill run CONFIG | head`",
    "Ctrl-C": "SIGINT to the run and its workers",
    "Ctrl-C twice": "the second while the first is obeyed",
    "full disk": "others fill it after the run has looked for free space",
    "quota": "files can grow to some bytes only",
    "read-only workspace": "nothing below it can be written",
    "unreadable artefacts": "the folder of an earlier stage's artefacts is closed",
    "flipped bits": "one in a file of each stage",
    "file cut short": "half of an artefact is gone, as after a power cut",
    "lost file": "an artefact is deleted",
    "clock jumps": "files from years ahead or back, and a clock that is set back by days",
    "GPU out of memory": "torch.OutOfMemoryError from a teacher, and in a training",
    "no /dev/shm": "it cannot be written, so that no process can be shared with",
    "closed caches": "HOME, XDG_CACHE_HOME, HF_HOME and NUMBA_CACHE_DIR cannot be made",
}
"""Name of a fault -> how it is brought about."""
FILE = "PCDISTILL_FAULT_OUTCOMES"
"""Environment variable: the file that outcomes are added to, a line of JSON each."""


@dataclass(frozen=True)
class Outcome:
    """How one try of a fault went; where results differ the test fails, and nothing is written."""

    fault: str
    said: str
    """What the user sees."""
    status: str
    """What `pcdistill status` says then."""
    following: str
    """What the next run does."""
    stage: str = ""
    """In which it happened, where that was left to chance."""


def note(outcome: Outcome) -> None:
    """Add an outcome to the file, where one is asked for."""
    assert outcome.fault in FAULTS, outcome.fault
    if FILE in os.environ:
        with Path(os.environ[FILE]).open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")


def load_outcomes(file: Path) -> list[Outcome]:
    """Read the outcomes of a run of the suite."""
    return [Outcome(**json.loads(line)) for line in file.read_text().splitlines()]


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Write the table of the page: a row for each fault, with the try in the middle as example.

    Args:
        outcomes: of one run of the suite.

    Raises:
        ValueError: a fault was not tried.
    """
    if missing := FAULTS.keys() - {outcome.fault for outcome in outcomes}:
        raise ValueError(f"not tried: {', '.join(sorted(missing))}")
    lines = [
        "| fault | what is said | `pcdistill status` | the next run | results | tried |",
        "|---|---|---|---|---|---|",
    ]
    for fault, how in FAULTS.items():
        tries = [outcome for outcome in outcomes if outcome.fault == fault]
        one = tries[len(tries) // 2]
        cells = (how, one.said, one.status, one.following)
        text = " | ".join(cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| **{fault}**: {text} | equal | {len(tries)} |")
    places = Counter(outcome.stage for outcome in outcomes if outcome.stage)
    told = ", ".join(f"{place} {count}" for place, count in places.items())
    return "\n".join([*lines, "", f"Kills by stage: {told}."])
