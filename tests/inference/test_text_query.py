"""What is asked of one scene: relevancy alone, and with the places."""

from __future__ import annotations

import torch

from pcdistill.inference import open_run, text_query
from tests.fixtures.viewer_run import OTHER_SCENE, SCENE, write_run


def test_relevancy_without_places_is_that_of_the_answer(tmp_path):
    run = open_run(write_run(tmp_path / "run", scenes=1))
    whole = run.querier.query_scene("couch", SCENE, method="fused")
    alone, method = run.querier.scene_relevancy("couch", SCENE, "fused")
    assert method == "fused"
    assert torch.equal(alone, whole.relevancy)
    assert float(alone.max()) > 2 * float(alone.min())


def test_what_is_kept_of_scenes_is_bounded_and_changes_no_answer(tmp_path, monkeypatch):
    run = open_run(write_run(tmp_path / "run", scenes=2))
    fresh = [
        open_run(tmp_path / "run").querier.query_scene("couch", scene, method="fused")
        for scene in (SCENE, OTHER_SCENE)
    ]
    for bound, kept in ((10**9, {SCENE, OTHER_SCENE}), (1, {OTHER_SCENE})):
        monkeypatch.setattr(text_query, "KEPT_POINTS", bound)
        for _ in range(2):
            for scene, expected in zip((SCENE, OTHER_SCENE), fresh, strict=True):
                found = run.querier.query_scene("couch", scene, method="fused")
                assert found.answers == expected.answers != ()
                assert found.floor == expected.floor
        assert set(run.querier._touching) == kept


def test_only_answers_that_are_given_get_a_box(tmp_path, monkeypatch):
    run = open_run(write_run(tmp_path / "run", scenes=2))
    made, box = [], text_query.upright_box
    monkeypatch.setattr(text_query, "upright_box", lambda points: made.append(1) or box(points))
    found = run.querier.query("floor", run.scenes, top_k=1, method="fused", draw="none")
    assert len(found.answers) == len(made) == 1
