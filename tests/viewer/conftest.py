"""A finished run that the viewer shows, made once."""

from __future__ import annotations

import pytest

from pcdistill.inference import open_run
from pcdistill.viewer import ViewerSession
from tests.fixtures.viewer_run import write_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Workspace of a run with two scenes."""
    return write_run(tmp_path_factory.mktemp("viewer") / "run")


@pytest.fixture
def session(run_folder):
    """The run as it is looked at."""
    return ViewerSession(open_run(run_folder))
