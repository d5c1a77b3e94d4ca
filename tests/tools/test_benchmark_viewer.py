"""The benchmark of the viewer shows a run that answers, and refuses what is no scene."""

from __future__ import annotations

import argparse

import pytest

from pcdistill.inference import open_run
from pcdistill.viewer import ViewerSession
from tools.benchmarks import viewer


def test_its_run_answers_with_the_pieces_that_were_given_the_word(tmp_path):
    session = ViewerSession(open_run(viewer.write_run(tmp_path / "run", 40_000)))
    assert "fused" in session.views
    session.ask("couch")
    relevancy, _ = session.run.querier.scene_relevancy("couch", viewer.SCENE, "fused")
    truth = session.content.labels("truth")
    sofa = viewer.WORDS.index("sofa")
    assert float(relevancy[truth == sofa].min()) > float(relevancy[truth != sofa].max())


def test_too_few_points_are_refused():
    with pytest.raises(SystemExit, match="--points is 10, expected at least 1000"):
        viewer.run(argparse.Namespace(points=10, rounds=1, budget=0))
