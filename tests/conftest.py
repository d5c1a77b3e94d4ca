"""Where the reference fixtures and real captures are, that chance is fixed, what is left out."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from tests.fixed_chance import TorchGenerator, seed_generators

PROFILE = {"deadline": None, "print_blob": True}  # tests are never timed
hypothesis.settings.register_profile("pcdistill", derandomize=True, **PROFILE)
hypothesis.settings.register_profile("explore", max_examples=1000, **PROFILE)
hypothesis.settings.load_profile("pcdistill")  # --hypothesis-profile explore looks for new examples
TORCH = TorchGenerator()
hypothesis.register_random(TORCH)

REPOSITORY = Path(__file__).resolve().parents[1]
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


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the small real captures; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no capture data at {DATA} (set PCDISTILL_DATA)")
    return DATA


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
