"""The workspace of a toy run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcdistill.pipeline.config import GeneralConfig, RunConfig


@pytest.fixture
def config(tmp_path):
    (tmp_path / "work").mkdir()
    return RunConfig(run=GeneralConfig(workspace=str(tmp_path / "work")))


@pytest.fixture
def root(config):
    return Path(config.run.workspace)
