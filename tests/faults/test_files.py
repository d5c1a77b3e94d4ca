"""Files that are damaged, lost or closed, disks that are full or read-only, clocks that jump."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pcdistill.pipeline import STAGE_NAMES
from tests.faults.preparations import fill_disk_later, let_modes_hold, limit_files, shift_clock
from tests.faults.trial import Trial, one_sentence

YEARS = 10 * 365 * 86400.0


def flip_bit(file: Path, chance: random.Random) -> None:
    """Change one bit of a file, and nothing else of it: neither size nor time."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def any_file(trial: Trial, stage: str, chance: random.Random) -> str:
    files = trial.wanted.units[stage]
    return chance.choice([name for unit in sorted(files) for name in files[unit]])


@pytest.mark.parametrize(
    "stages", [("evaluate",), pytest.param(STAGE_NAMES, marks=pytest.mark.slow)], ids=len
)
def test_flipped_bits_are_found_and_made_anew(trial, stages):
    chance = random.Random(1)
    trial.begin_without()
    damaged = [any_file(trial, stage, chance) for stage in stages]
    for name in damaged:
        flip_bit(trial.workspace / name, chance)
    told = trial.status()
    assert told.exit_status == 1
    found = re.findall(r"(?m)^.* (\S+) is damaged, its content was changed; the next", told.output)
    assert sorted(found) == sorted(set(damaged))
    (sentence,) = re.findall(rf"(?m)^.*{re.escape(damaged[0])} is damaged.*$", told.output)
    trial.keeps_its_promises("flipped bits", sentence, damaged=True)


@pytest.mark.parametrize("fault", ["file cut short", "lost file"])
def test_a_file_that_is_not_there_is_made_anew(trial, fault):
    chance = random.Random(2)
    trial.begin_without()
    name = any_file(trial, "fuse", chance)
    file = trial.workspace / name
    if fault == "lost file":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2)
    told = trial.status()
    (sentence,) = re.findall(rf"^.*{re.escape(name)} is .*$", told.output, re.MULTILINE)
    assert told.exit_status == 1
    trial.keeps_its_promises(fault, sentence, damaged=True)


def test_a_workspace_that_is_read_only(trial):
    trial.begin_without("fuse")
    folders = [trial.workspace, *(p for p in trial.workspace.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    ended = trial.start(prepare=let_modes_hold).end()
    assert ended.status == 2
    sentence = one_sentence(ended, r"error: .*: no workspace can be written there .*--workspace")
    for folder in folders:
        folder.chmod(0o755)
    trial.keeps_its_promises("read-only workspace", sentence)


def failures(printed: str) -> list[str]:
    """The sentences of the units that failed, as the summary has them."""
    return re.findall(r"(?m)^FAILED \w+ [^:]*: (.*)$", printed)


def test_artefacts_that_are_closed(trial):
    trial.begin_without("fuse")
    features = trial.workspace / "features" / "demo-dense"
    features.chmod(0)
    ended = trial.start(prepare=let_modes_hold).end()
    features.chmod(0o755)
    sentence = ended.sentence
    assert re.fullmatch(r"error: .*features.*: cannot be read .*check its permissions.*", sentence)
    assert ended.status == 2
    trial.keeps_its_promises("unreadable artefacts", sentence)


@pytest.fixture
def small_disk(trial: Trial) -> Iterator[Path]:
    """A file system of its own at the workspace."""
    place = trial.workspace
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("left", [0, 64])
def test_a_disk_that_others_fill(trial, small_disk, left):
    """With no byte left, or with room for manifest entries and for no artefact."""
    trial.begin_without("synthesize")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left * 1024))
    ended = trial.start(prepare=partial(fill_disk_later, small_disk)).end()
    assert "Traceback" not in ended.errors
    assert ended.status == (1 if left else 2)
    said = failures(ended.output) + ended.errors.splitlines()
    first = said[0]
    for sentence in said:
        known = r"No space left on device\).*(free space|--workspace)"
        assert sentence.startswith("not tried") or re.search(known, sentence), said
    ballast.unlink()
    trial.workspace = Path(shutil.copytree(small_disk, trial.folder / "larger disk"))
    trial.keeps_its_promises("full disk", first.replace(str(small_disk), "RUN"))


def test_a_quota_on_files(trial):
    trial.begin_without("lift", "fuse")
    ended = trial.start(prepare=partial(limit_files, 30_000)).end()
    assert "Traceback" not in ended.errors
    assert ended.status in (1, 2)
    (first, *_) = said = failures(ended.output) + ended.errors.splitlines()
    assert re.fullmatch(r".*File too large\); check its permissions and the free space", first), (
        said
    )
    trial.keeps_its_promises("quota", first)


@pytest.mark.parametrize("years", [10, -10])
def test_files_from_another_time(trial, years):
    trial.begin_without()
    for path in trial.workspace.rglob("*"):
        moment = path.stat().st_mtime + years / 10 * YEARS
        os.utime(path, (moment, moment))
    prepare = partial(shift_clock, -3 * 86400.0)
    ended = trial.start("--only", "fuse", "--redo", prepare=prepare).end()
    assert (ended.status, ended.errors) == (0, "")
    assert "2 done, 0 up to date, 0 failed" in ended.output
    trial.keeps_its_promises("clock jumps", "nothing: no time of a file is asked for")
