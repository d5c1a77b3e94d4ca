"""One workspace that something is done to, and the four promises that hold all the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

from pcdistill.pipeline import STAGE_NAMES
from tests.end_to_end.conftest import pcdistill
from tests.faults.child import Child, Ended
from tests.faults.outcomes import Outcome, note
from tests.faults.results import same_file, same_results


class Undisturbed(NamedTuple):
    """The tiny run as it goes when nothing happens."""

    config: Path
    workspace: Path
    units: dict[str, dict[str, list[str]]]
    """Stage -> unit -> its files, below the workspace."""
    seconds: dict[str, float]
    """Stage -> how long it takes here."""


class Counted(NamedTuple):
    """What `pcdistill status --verify` said."""

    done: dict[str, int]
    """Stage -> units that are done."""
    waiting: int
    """Units that are stale or blocked, and up to date when what they read comes out as it was."""
    states: str
    """Counts of all stages together, such as "5 done, 15 missing"."""
    output: str
    exit_status: int


class Trial:
    """A workspace of the tiny run."""

    def __init__(self, wanted: Undisturbed, folder: Path) -> None:
        self.wanted = wanted
        self.folder = folder
        self.workspace = folder / "run"

    def begin_without(self, *stages: str) -> None:
        """Take over the undisturbed run but for some stages; what they lead to is stale then."""
        shutil.copytree(self.wanted.workspace, self.workspace, dirs_exist_ok=True)
        for stage in stages:
            for files in self.wanted.units[stage].values():
                for name in files:
                    (self.workspace / name).unlink()
            shutil.rmtree(self.workspace / "manifest" / stage)

    def start(
        self,
        *options: object,
        command: str = "run",
        prepare: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Child:
        """Start a command on the workspace, with one process unless `--jobs` says otherwise."""
        words: list[object] = [command, self.wanted.config, "--workspace", self.workspace, *options]
        if command == "run" and "--jobs" not in options:
            words += ["--jobs", 1]
        return Child(self.folder, words, prepare, environment)

    def status(self) -> Counted:
        """Ask for the status, and compare every file with its checksum."""
        ran = pcdistill("status", self.wanted.config, "--workspace", self.workspace, "--verify")
        assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
        rows = re.findall(r"^│ (\w+) +│(.*)│$", ran.stdout, re.MULTILINE)
        counts = {
            stage: [0 if "-" in cell else int(cell) for cell in cells.split("│")]
            for stage, cells in rows
        }
        assert tuple(counts) == STAGE_NAMES, ran.stdout + ran.stderr
        names = ("done", "failed", "stale", "missing", "blocked")
        totals = [sum(column) for column in zip(*counts.values(), strict=True)]
        states = ", ".join(
            f"{count} {name}" for count, name in zip(totals, names, strict=True) if count
        )
        done = {stage: cells[0] for stage, cells in counts.items()}
        return Counted(done, totals[2] + totals[4], states, ran.stdout, ran.returncode)

    def true_status(self, *, damaged: bool = False) -> Counted:
        """The status, which calls done only what is there as in the undisturbed run.

        Args:
            damaged: whether the files are known to be, which `--verify` must have said.
        """
        told = self.status()
        assert told.exit_status == int(damaged), told.output
        for stage, count in told.done.items():
            units = self.wanted.units[stage]
            whole = sum(
                all(same_file(self.workspace, self.wanted.workspace, name) for name in files)
                for files in units.values()
            )
            assert count <= whole, f"{stage}: {told.output}"
        return told

    def finish(self, told: Counted) -> str:
        """The next run makes what was not done, and nothing else, and all is as undisturbed.

        Args:
            told: by the status before.

        Returns:
            how the run sums it up.
        """
        ran = pcdistill("run", self.wanted.config, "--workspace", self.workspace)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr, ran.stderr
        summary = self._summary(ran.stdout)
        numbers = [int(number) for number in re.findall(r"\d+", summary)]
        made, kept = (0, numbers[0]) if summary.startswith("nothing") else (numbers[0], numbers[1])
        before = sum(told.done.values())
        assert before <= kept <= before + told.waiting, (told.output, ran.stdout)
        assert made + kept == sum(map(len, self.wanted.units.values())), ran.stdout
        same_results(self.workspace, self.wanted.workspace)
        return summary

    def keeps_its_promises(self, fault: str, said: str, *, damaged: bool = False) -> None:
        """Check status, next run and results after a fault, and note the outcome.

        Args:
            fault: one of `FAULTS`.
            said: the sentence that the user saw.
            damaged: see `true_status`.
        """
        told = self.true_status(damaged=damaged)
        self.note(fault, said, told, self.finish(told))

    def note(self, fault: str, said: str, told: Counted, following: str, stage: str = "") -> None:
        """Note how a try of a fault went.

        Args:
            fault: one of `FAULTS`.
            said: what the user saw.
            told: by the status then.
            following: what the next run did.
            stage: in which it happened, where that was left to chance.
        """
        said = said.replace(str(self.workspace), "RUN").replace(f".{gethostname()}.", ".HOST.")
        note(Outcome(fault, said, told.states, following, stage))

    @staticmethod
    def _summary(printed: str) -> str:
        (line,) = re.findall(r"^(?:nothing to do: .*|\d+ done, .*)$", printed, re.MULTILINE)
        return str(re.sub(r" in \d+ s$", "", line))


def one_sentence(ended: Ended, pattern: str) -> str:
    """The one line on stderr, which must be as expected; the process has ended by itself.

    Args:
        ended: process.
        pattern: regular expression of the whole line.
    """
    sentence = ended.sentence
    assert re.fullmatch(pattern, sentence), sentence
    return sentence
