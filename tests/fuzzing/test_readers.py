"""Whatever is wrong with a file, its reader ends with a right result or with one sentence.

Some 2,500 files in the suite; `make fuzz` tries as many as N says. In the suite the same are tried
each time, by `make fuzz` others each time, and what failed is kept for the next.
"""

from __future__ import annotations

import os
import resource
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from pcdistill.errors import PcdistillError
from pcdistill.scenes.readers.detection import READERS
from tests.fuzzing.mutations import all_damages, damaged
from tests.fuzzing.targets import TARGETS

INPUTS = int(os.environ.get("PCDISTILL_FUZZ", "2400"))
"""Damaged files in all."""
IS_LONG = "PCDISTILL_FUZZ" in os.environ
FAILED = Path(__file__).resolve().parents[2] / ".hypothesis" / "fuzzing"
"""Where what failed is kept."""
MEMORY = 768 << 20  # bytes that a target may make the process grow by
ADDRESSES = 8 << 30  # bytes beyond which an allocation fails, to spare the machine
LENGTH = 1200  # characters of a sentence, the path included
SHARES = sum(target.share for target in TARGETS.values())


@pytest.fixture
def bounded():
    """Let a hopeless allocation fail instead of filling the machine; restored in the end."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    status = Path("/proc/self/status").read_text()
    used = int(status.split("VmSize:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESSES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(read, place: Path) -> str:
    """The sentence with which a file is refused; empty where it is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(place)
        except PcdistillError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("name", TARGETS)
def test_every_damage_is_read_right_or_refused_in_one_sentence(name, tmp_path, bounded):
    target = TARGETS[name]
    if not target.is_there:
        pytest.skip(f"{target.needs} is not installed")
    place = target.write(tmp_path)
    assert outcome(target.read, place) == "", "the whole files are refused"
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    whole = {path: path.read_bytes() for path in files}
    # images and clouds are targets of their own; what describes a scan matters more
    told = [path for path in files if path.suffix not in (".jpg", ".png", ".ply")] or files
    seen: Counter[bool] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @settings(
        max_examples=max(INPUTS * target.share // SHARES, 5),
        deadline=None,
        derandomize=not IS_LONG,
        database=DirectoryBasedExampleDatabase(FAILED) if IS_LONG else None,
        suppress_health_check=list(HealthCheck),
        phases=list(Phase) if IS_LONG else [Phase.explicit, Phase.generate],
    )
    @given(st.sampled_from([*told * 3, *files]), all_damages)
    def try_one(file: Path, changes) -> None:
        file.write_bytes(damaged(whole[file], changes))
        try:
            sentence = outcome(target.read, place)
        finally:
            file.write_bytes(whole[file])
        note(sentence)
        seen[sentence != ""] += 1
        assert "\n" not in sentence
        assert len(sentence) <= LENGTH
        assert sentence == "" or sentence[0] != "'"

    try_one()
    assert seen[True] > 0 or target.forgives, "nothing was refused"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown <= MEMORY, f"a damaged file cost {grown >> 20} MiB"


def test_no_reader_of_scans_is_forgotten():
    tried = {name.split()[0] for name in TARGETS} | {name.replace(" ", "_") for name in TARGETS}
    assert READERS.keys() - tried == set()


def test_the_suite_tries_two_thousand_files():
    assert sum(max(2400 * target.share // SHARES, 5) for target in TARGETS.values()) >= 2000
