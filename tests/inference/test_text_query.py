"""What is asked of one scene: relevancy alone, and with the places."""

from __future__ import annotations

import torch

from pcdistill.inference import open_run
from tests.fixtures.viewer_run import SCENE, write_run


def test_relevancy_without_places_is_that_of_the_answer(tmp_path):
    run = open_run(write_run(tmp_path / "run", scenes=1))
    whole = run.querier.query_scene("couch", SCENE, method="fused")
    alone, method = run.querier.scene_relevancy("couch", SCENE, "fused")
    assert method == "fused"
    assert torch.equal(alone, whole.relevancy)
    assert float(alone.max()) > 2 * float(alone.min())
