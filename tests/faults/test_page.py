"""docs/reliability.md names every fault that the suite has, and the suite has every one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pcdistill.pipeline import STAGE_NAMES
from tests.conftest import REPOSITORY
from tests.faults.outcomes import FAULTS, Outcome, outcome_table
from tests.faults.test_kills import CHAINS

PAGE = REPOSITORY / "docs" / "reliability.md"


def rows(text: str) -> dict[str, list[str]]:
    """Name of a fault -> the other cells of its row."""
    found = re.findall(r"^\| \*\*(.*?)\*\*: (.*) \|$", text, re.MULTILINE)
    cells = {name: re.split(r" (?<!\\)\| ", rest) for name, rest in found}
    return {name: [one.replace(r"\|", "|") for one in row] for name, row in cells.items()}


def test_the_page_has_every_fault_of_the_suite_with_what_was_found():
    table = rows(PAGE.read_text())
    assert list(table) == list(FAULTS)
    for name, cells in table.items():
        how, *said, results, tried = cells
        assert how == FAULTS[name]
        assert len(said) == 3
        assert all(said)
        assert results == "equal"
        assert int(tried) >= 1


def test_the_whole_extent_kills_at_fifty_moments_and_more():
    assert CHAINS * (len(STAGE_NAMES) - 1) >= 50


def test_every_fault_is_one_of_the_suite():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert not [name for name in FAULTS if f'"{name}"' not in tests]


def test_the_table_shows_the_try_in_the_middle_and_counts_them():
    outcomes = [Outcome(name, "a | b", "1 done", "2 done, 1 up to date") for name in FAULTS]
    outcomes += [Outcome("kill -9", "Killed", f"{n} done", "goes on", "lift") for n in range(4)]
    table = outcome_table(outcomes)
    assert rows(table)["kill -9"][1:] == ["Killed", "1 done", "goes on", "equal", "5"]
    assert rows(table)["SIGTERM"][1] == "a | b"
    assert table.endswith("Kills by stage: lift 4.")
    with pytest.raises(ValueError, match="not tried: SIGTERM"):
        outcome_table([outcome for outcome in outcomes if outcome.fault != "SIGTERM"])
