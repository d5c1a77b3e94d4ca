"""2D-3D ensemble: which side each point takes, against OpenScene's own arithmetic."""

from __future__ import annotations

import pytest
import torch

from pcdistill.fusion import ensemble as module
from pcdistill.fusion import ensemble_features

TEXTS = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, -0.4]]), dim=1)


def random_sides(points: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    fused, student = torch.randn(2, points, 3, generator=generator)
    seen = torch.rand(points, generator=generator) < 0.7
    return fused, seen, 5 * student


@pytest.mark.parametrize("chunk", [1, 3, 1 << 22])
def test_every_point_takes_what_is_nearer_to_some_text(monkeypatch, chunk):
    monkeypatch.setattr(module, "rows_per_chunk", lambda *widths: chunk)
    fused, seen, student = random_sides(40, 3)
    found = ensemble_features(fused.where(seen[:, None], torch.nan), seen, student, TEXTS)
    taken = set()
    for point in range(40):
        cosines = [
            max(float(side[point] @ text) / float(side[point].norm()) for text in TEXTS)
            for side in (fused, student)
        ]
        side = "fused" if seen[point] and cosines[0] > cosines[1] else "student"
        taken.add((side, bool(seen[point])))
        assert torch.equal(found[point], (fused if side == "fused" else student)[point])
    assert taken == {("fused", True), ("student", True), ("student", False)}


def test_where_all_is_seen_it_is_what_openscene_computes():
    """Its lines, in single precision: lengths are kept, and of equal cosines the student's."""
    fused, _, student = random_sides(60, 5)
    student[8] = fused[8].clone()
    best = [
        (side / (side.norm(dim=-1, keepdim=True) + 1e-5) @ TEXTS.T).max(dim=-1)[0]
        for side in (fused, student)
    ]
    expected = student.clone()
    mask = best[1] < best[0]
    expected[mask] = fused[mask]
    found = ensemble_features(fused, torch.ones(60, dtype=torch.bool), student, TEXTS)
    sure = (best[0] - best[1]).abs() > 1e-4
    assert torch.equal(found[sure], expected[sure])
    assert torch.equal(found[8], student[8])
    assert 0 < int(mask[sure].sum()) < int(sure.sum()) > 50


def test_a_point_that_one_side_knows_takes_that_side():
    """Also where all cosines of the one that knows it are negative."""
    away = torch.tensor([[-1.0, -1.0, 0.5]])
    nothing = torch.zeros(1, 3)
    assert not (away @ TEXTS.T > 0).any()
    yes, no = torch.tensor([True]), torch.tensor([False])
    assert torch.equal(ensemble_features(nothing, no, away, TEXTS), away)
    assert torch.equal(ensemble_features(away, yes, nothing, TEXTS), away)
    assert torch.equal(ensemble_features(away, no, nothing, TEXTS), nothing)


def test_lengths_do_not_decide():
    fused, seen, student = random_sides(30, 9)
    first = ensemble_features(fused, seen, student, TEXTS)
    second = ensemble_features(1000 * fused, seen, 0.001 * student, TEXTS)
    assert torch.equal((first == student).all(dim=1), (second == 0.001 * student).all(dim=1))


def test_shapes_that_do_not_fit_are_refused():
    fused, seen, student = random_sides(4, 1)
    with pytest.raises(ValueError, match="seen"):
        ensemble_features(fused, seen[:2], student, TEXTS)
    with pytest.raises(ValueError, match="student"):
        ensemble_features(fused, seen, student[:2], TEXTS)
    with pytest.raises(ValueError, match="text_embeddings"):
        ensemble_features(fused, seen, student, TEXTS[:0])
