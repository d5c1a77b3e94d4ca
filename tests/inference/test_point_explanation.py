"""What each teacher says of a point: by hand, for features that are given."""

from __future__ import annotations

import math

import pytest
import torch

from pcdistill.errors import ArtifactError
from pcdistill.inference import explain_point, open_run
from pcdistill.pipeline import read_rows
from tests.fixtures.viewer_run import SCENE, ceiling_point, sofa_point, write_run


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    return open_run(write_run(tmp_path_factory.mktemp("why") / "run", scenes=1)).artifacts


def test_votes_have_word_class_skill_weight_and_frames(artifacts):
    found = explain_point(artifacts, SCENE, sofa_point())
    dense, masks = found.votes
    assert (dense.word, dense.category, dense.frames) == ("sofa", "sofa", 3)
    assert (masks.word, masks.category, masks.frames) == ("bed", "bed", 3)
    assert dense.similarity == pytest.approx(1, abs=1e-3)  # stored as halves
    assert (dense.capability, masks.capability) == (pytest.approx(0.9), pytest.approx(0.6))
    # each teacher's skill is the same for all words: P = (0.9, 0.6), softmax at 0.05 (Eq. 7, 8)
    assert dense.weight == pytest.approx(1 / (1 + math.exp(-0.3 / 0.05)), abs=1e-5)
    assert masks.weight == pytest.approx(1 - dense.weight, abs=1e-5)
    assert found.fused == "sofa"


def test_a_teacher_that_saw_nothing_has_no_say(artifacts):
    dense, masks = explain_point(artifacts, SCENE, ceiling_point()).votes
    assert (masks.word, masks.category, masks.frames, masks.weight) == (None, None, 0, 0)
    assert dense.weight == 1


def test_a_point_says_what_the_whole_scene_says(artifacts):
    """The row that is read alone is the row of the whole stack."""
    points = torch.tensor([ceiling_point(), 7, sofa_point()])
    alone = artifacts.point_features.load_points(SCENE, points)
    whole = artifacts.point_features.load_stack(SCENE)
    assert torch.equal(alone.seen, whole.seen[:, points])
    assert torch.equal(alone.of_points(torch.arange(3)), whole.of_points(points))


def test_without_skills_there_are_words_and_no_weights(tmp_path):
    run = open_run(write_run(tmp_path / "run", scenes=1)).artifacts
    run.workspace.capability("demo-masks").unlink()
    found = explain_point(run, SCENE, sofa_point())
    assert [vote.word for vote in found.votes] == ["sofa", "bed"]
    assert {(vote.capability, vote.weight) for vote in found.votes} == {(None, None)}
    assert found.fused is None


def test_features_that_are_not_stored_say_nothing(tmp_path):
    run = open_run(write_run(tmp_path / "run", lifted=False, scenes=1)).artifacts
    assert explain_point(run, SCENE, 0) is None


def test_a_file_without_the_tensor_is_named(artifacts):
    path = artifacts.workspace.point_features("demo-dense", SCENE)
    with pytest.raises(ArtifactError, match="lacks nothing-like-it"):
        read_rows(path, "nothing-like-it", [0])
    assert read_rows(path, "features", []).shape[0] == 0
