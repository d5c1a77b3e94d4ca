"""Where the reference fixtures and real captures are, that chance is fixed, what is left out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

from pcdistill.labels import IGNORE_LABEL
from tests.fixed_chance import TorchGenerator, seed_generators

PROFILE = {"deadline": None, "print_blob": True}  # tests are never timed
hypothesis.settings.register_profile("pcdistill", derandomize=True, **PROFILE)
hypothesis.settings.register_profile("explore", max_examples=1000, **PROFILE)
hypothesis.settings.load_profile("pcdistill")  # --hypothesis-profile explore looks for new examples
LONGEST = (
    "end_to_end/test_demo.py",
    "homes/test_digest.py",
    "doctor/test_examine.py",
    "scenes/checks/test_fit_requirement.py",
    "end_to_end/test_datasets.py",
    "pipeline/test_runner.py",
    "sparse/engines/test_triton_engine.py",
    "homes/test_homes.py",
    "tools/test_train_teachers.py",
    "fuzzing/test_readers.py",
    "end_to_end/test_capture.py",
    "end_to_end/test_file_trouble.py",
    "faults/test_files.py",
    "faults/test_signals.py",
    "faults/test_kills.py",
    "faults/test_machines.py",
    "stages/test_staleness.py",
    "tools/test_benchmark_sparse.py",
    "end_to_end/test_occlusion.py",
    "end_to_end/test_disk.py",
    "viewer/test_browser.py",
    "tools/test_docs_site.py",
    "end_to_end/test_trained_student.py",
    "sparse/test_memory_pool.py",
    "homes/test_scan.py",
    "homes/test_scanner.py",
    "homes/test_collection.py",
    "end_to_end/test_wheel.py",
    "test_hidden_features.py",
    "scenes/test_memory_bound.py",
    "test_house_rules.py",
    "test_security.py",
    "fuzzing/test_questions.py",
    "scenes/test_threads.py",
    "stages/test_fuse.py",
    "scenes/readers/nuscenes/test_openscene.py",
    "scenes/readers/matterport/test_region.py",
    "scenes/test_scannet_fuzz.py",
    "scenes/test_own_scans_fuzz.py",
    "geometry/test_real_capture.py",
    "sparse/test_parallel.py",
    "pipeline/test_disk_space.py",
    "pipeline/test_workspace_lock.py",
    "sparse/engines/test_minkowski_engine.py",
    "test_atomic_io.py",
    "scenes/readers/nuscenes/test_keyframe.py",
    "scenes/readers/test_rgbd.py",
    "tools/test_convert_checkpoint.py",
    "inference/test_pieces.py",
    "stages/test_distill.py",
    "stages/test_distill_by_hand.py",
    "stages/test_answers_by_hand.py",
    "stages/test_ingest_by_hand.py",
    "stages/test_lift_by_hand.py",
    "stages/test_evaluate_by_hand.py",
    "stages/test_partition_by_hand.py",
    "scenes/readers/scannet/test_openscene.py",
)
"""Files of tests that take some seconds, the longest first; all of them are thorough."""

TORCH = TorchGenerator()
hypothesis.register_random(TORCH)

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = REPOSITORY / "tests"
GOLDEN = Path(os.environ.get("PCDISTILL_GOLDEN", REPOSITORY / "../shared/golden"))
DATA = Path(os.environ.get("PCDISTILL_DATA", REPOSITORY / "../shared/data"))


def golden_cases(pattern: str) -> list:
    """Parameters for `pytest.mark.parametrize`: every fixture file that matches, or one skip.

    `pattern` is a glob below the golden root such as ``"fusion/fusion_*.npz"``; another set of
    fixtures of the same kinds is found by the same pattern.
    """
    files = sorted(GOLDEN.glob(pattern)) if GOLDEN.is_dir() else []
    if not files:
        reason = f"no reference fixtures {pattern} below {GOLDEN} (set PCDISTILL_GOLDEN)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    return [pytest.param(file, id=file.stem) for file in files]


def load_npz(file: Path) -> dict[str, np.ndarray]:
    """All arrays of one fixture, by name."""
    with np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def labels_in_memory(labels: np.ndarray) -> np.ndarray:
    """Labels of a fixture, as OpenScene writes them, as our readers give them."""
    return np.where(labels == 255, IGNORE_LABEL, labels).astype(np.int64)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the small real captures; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no capture data at {DATA} (set PCDISTILL_DATA)")
    return DATA


LEFT_OUT = {"fast": ("slow", "thorough"), "usual": ("slow",), "all": ()}
"""Markers of the tests that a run leaves out; the make targets test-fast, test and test-all."""
left_out: Counter[str] = Counter()


def pytest_configure() -> None:
    """Compute in one thread: two processes with two each wait ten times as long as they work."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much of what is named is run."""
    parser.addoption("--extent", choices=LEFT_OUT, default="usual", help="leave out what is slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the extent says, and begin with what takes longest."""
    for item in items:
        if place_in_queue(item) < len(LONGEST):
            item.add_marker("thorough")
    kept: list[pytest.Item] = []
    for item in items:
        name = next(
            (m for m in LEFT_OUT[config.getoption("extent")] if item.get_closest_marker(m)), ""
        )
        if name:
            left_out[name] += 1
        else:
            kept.append(item)
    items[:] = sorted(kept, key=place_in_queue)


def place_in_queue(item: pytest.Item) -> int:
    """Processes take whole files in this order: the last ones should be short."""
    file = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a process of pytest-xdist what it left out; all of them leave out the same."""
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}) if not left_out else {})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run: nothing is left out in silence."""
    if left_out:
        counts = ", ".join(f"{count} marked {name}" for name, count in sorted(left_out.items()))
        terminalreporter.write_line(
            f"left out: {left_out.total()} tests ({counts}); make test-all runs them, "
            "or pytest --extent all"
        )


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Before a file of tests is imported."""
    seed_generators(collector.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """Before what tests share is made, by whichever of them comes first; also of their own."""
    seed_generators(f"{fixturedef.baseid}::{fixturedef.argname}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Before the test itself."""
    seed_generators(pyfuncitem.nodeid)
