"""Where the reference fixtures and real captures are, and what to do where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "pcdistill",
    deadline=None,  # tests are never timed
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
hypothesis.settings.load_profile("pcdistill")

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
