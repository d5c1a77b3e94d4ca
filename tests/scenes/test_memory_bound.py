"""Headers that lie cost a sentence, not memory: each reader is measured in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import corrupt_files

BOUND = 1 << 30  # bytes
ROOM = 8 << 30  # bytes of addresses beyond which a process may not go, to spare the machine

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset"
)


def number_of(key: str) -> int:
    """Bytes that the kernel states for this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) * 1024


def measure() -> None:
    """Open what is named on standard input, one path a line; say of each what came of it."""
    from pcdistill.errors import MissingExtraError, SceneError
    from pcdistill.scenes import find_scans, open_scene

    limit = number_of("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        path = line.strip()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = number_of("VmRSS")
        sentence = ""
        try:
            scans = find_scans(path)
            scene = open_scene(path, part=scans[0].name if len(scans) > 1 else "")
            for frame in scene.frames:
                frame.image()
                frame.depth()
        except (SceneError, MissingExtraError) as refused:
            sentence = str(refused)
            kind = type(refused).__name__
        except Exception as error:
            kind = f"{type(error).__name__}: {error}"
        else:
            kind = "scene"
        found = {"kind": kind, "sentence": sentence, "bytes": number_of("VmHWM") - before}
        print(json.dumps(found), flush=True)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What came of each lie, from one process."""
    folder = tmp_path_factory.mktemp("corrupt_files")
    cases = corrupt_files.CASES | corrupt_files.ACCEPTED
    paths = []
    for name, write in cases.items():
        place = folder / name
        place.mkdir()
        paths.append(str(write(place)))
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", "from tests.scenes.test_memory_bound import measure; measure()"],
        input="\n".join(paths),
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(paths), f"died at {list(cases)[len(found)]}:\n{done.stderr}"
    return dict(zip(cases, found, strict=True))


@pytest.mark.parametrize("name", corrupt_files.CASES)
def test_a_lie_costs_one_sentence_and_little_memory(measured, name):
    if name.startswith("las") and importlib.util.find_spec("laspy") is None:
        pytest.skip("laspy is not installed")
    found = measured[name]
    assert found["kind"] == "SceneError"
    assert "\n" not in found["sentence"]
    assert "allocat" not in found["sentence"]  # refused before, not by the lack of memory
    assert found["bytes"] < BOUND


@pytest.mark.parametrize("name", corrupt_files.ACCEPTED)
def test_a_lie_that_a_file_could_hold_costs_little_memory(measured, name):
    """A JPEG decoder fills missing pixels: nothing tells the image from a grey one."""
    assert measured[name]["kind"] == "scene"
    assert measured[name]["bytes"] < BOUND
