"""What is asked of one scene: relevancy alone, and with the places."""

from __future__ import annotations

import pytest
import torch

from pcdistill.inference import Question, open_run, text_query
from pcdistill.inference.pieces import Pieces
from pcdistill.inference.relevancy import NeighborhoodMean
from tests.fixtures.viewer_run import OTHER_SCENE, SCENE, SOFA, write_run


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


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Asks for the sofa of a room in two touching pieces, given what each says alone and heard."""
    run = open_run(write_run(tmp_path / "run", scenes=1))
    querier = run.querier
    ids = (querier._scene(SCENE).labels != SOFA).long()
    pieces = Pieces(ids, run.encode(["sofa", "wall"]))
    monkeypatch.setattr(querier._pieces, "features", lambda method, scene: pieces)

    def ask(alone: list[float], heard: list[float]):
        said = torch.tensor(alone), torch.tensor(heard)
        monkeypatch.setattr(querier, "_relevancy", lambda *of: said)
        question = Question("sofa", min_similarity=0.9)
        return querier.query_scene(question, SCENE, method="fused"), ids

    return ask


def test_what_neighbors_drown_is_found_alone(asked):
    """Heard, the sofa is one place with its wall, which is no sofa."""
    found, ids = asked([0.8, 0.1], [0.3, 0.28])
    (sofa,) = found.answers
    assert torch.equal(sofa.rows, (ids == 0).nonzero()[:, 0])
    assert sofa.relevancy == pytest.approx(0.8)
    assert torch.equal(found.relevancy, torch.tensor([0.8, 0.1])[ids])


def test_where_neighbors_agree_nothing_else_is_looked_at(asked):
    found, ids = asked([0.1, 0.8], [0.6, 0.2])
    (sofa,) = found.answers
    assert torch.equal(sofa.rows, (ids == 0).nonzero()[:, 0])
    assert sofa.relevancy == pytest.approx(0.6)


def test_what_neither_finds_is_not_there(asked):
    found, _ = asked([0.1, 0.8], [0.3, 0.28])
    assert found.answers == ()
    assert found.best_similarity < found.floor


def test_a_badly_seen_piece_is_heard_out(tmp_path):
    """What a scene says at once is what its pieces say to each other, three cells apart or less."""
    run = open_run(write_run(tmp_path / "run", scenes=1))
    querier = run.querier
    scene = querier._scene(SCENE)
    pieces = querier._pieces.features("fused", scene)
    heard, _ = querier.scene_relevancy("couch", SCENE, "fused")
    embedded = text_query.embed_question(run.artifacts.words, Question("couch"))
    alone = text_query.relevancy(pieces.features, embedded.queries, embedded.alternatives)
    first, second = querier._kept(scene, pieces).touching.near_pairs()
    assert len(first) > 0
    sizes = torch.bincount(pieces.ids, minlength=len(alone))
    means = NeighborhoodMean(
        pieces.features, sizes, torch.from_numpy(first), torch.from_numpy(second)
    )
    known = pieces.features.any(dim=1)[pieces.ids]
    assert torch.equal(heard[known], means(alone)[pieces.ids][known])
    assert not torch.allclose(heard[known], alone[pieces.ids][known], atol=1e-4)
