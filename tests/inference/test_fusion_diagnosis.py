"""Who decides on a point: weights, ties, points of one teacher and unscored votes by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pcdistill.artifacts import TeacherFeatureStack
from pcdistill.inference import FusionRule
from pcdistill.inference.fusion_diagnosis import diagnose_fusion
from pcdistill.reporting.fusion_images import fusion_picture

NAMES = ("dense", "masks")
WORDS = torch.eye(3)
TABLE = torch.tensor([[0.8, 0.4, math.nan], [0.5, 0.6, math.nan]])
SAID = {
    # point: what dense says, what masks says
    0: (0, 1),  # P = (0.6, 0.55): dense by 1 / (1 + exp(-1))
    1: (1, 1),  # P = (0.4, 0.6): masks by 1 / (1 + exp(-4))
    2: (0, None),  # dense alone
    3: (None, 1),  # masks alone
    4: (None, None),
    5: (2, 2),  # no score at all: both the same
    6: (2, 0),  # only the vote of masks counts: P = (0.8, 0.5)
}


def stack(said=SAID):
    lifted = []
    for teacher in range(2):
        points = [point for point, both in said.items() if both[teacher] is not None]
        rows = WORDS[torch.tensor([said[point][teacher] for point in points]).long()]
        lifted.append((rows.half(), torch.tensor(points).long()))
    return TeacherFeatureStack(lifted, len(said))


def diagnosis(table=TABLE, **changes):
    rule = FusionRule("fused", WORDS, table, 0.05, "paper")._replace(**changes)
    return diagnose_fusion(stack(), rule, NAMES)


def test_winners_and_their_weights():
    found = diagnosis()
    assert found.winner.tolist() == [0, 1, 0, 1, -1, 2, 0]
    expected = [
        1 / (1 + math.exp(-1)),
        1 / (1 + math.exp(-4)),
        1,
        1,
        0,
        0.5,
        1 / (1 + math.exp(-6)),
    ]
    assert found.largest.tolist() == pytest.approx(expected, abs=1e-6)
    assert found.seen_by.tolist() == [2, 2, 1, 1, 0, 2, 2]
    assert found.unscored.tolist() == [False, False, False, False, False, True, True]


def test_it_is_said_in_shares_of_what_is_seen():
    assert diagnosis().sentence() == (
        "dense decides 50 %, mean weight 0.91; masks decides 33 %, mean weight 0.99; ties 17 %; "
        "seen by some teachers only 33 %; with a vote for a class without a score 33 %"
    )


def test_many_points_are_as_one_after_the_other(monkeypatch):
    whole = diagnosis()
    monkeypatch.setattr("pcdistill.inference.fusion_diagnosis._POINTS_AT_A_TIME", 2)
    for here, there in zip(whole[1:], diagnosis()[1:], strict=True):
        assert torch.equal(here, there)


def test_a_scene_that_nobody_sees():
    nothing = dict.fromkeys(range(3), (None, None))
    found = diagnose_fusion(stack(nothing), FusionRule("fused", WORDS, TABLE, 0.05, "paper"), NAMES)
    assert found.winner.tolist() == [-1] * 3
    assert found.sentence() == "no teacher sees any point"


def test_it_needs_a_table():
    with pytest.raises(ValueError, match="method is 'fused', which needs a capability table"):
        diagnosis(table=None)


def test_the_picture_has_the_winner_s_colour_paler_where_less_sure():
    shown = []

    def draw(colors):
        shown.append(colors)
        return torch.zeros(2, 2, 3, dtype=torch.uint8)

    picture = fusion_picture(diagnosis(), draw)
    assert "blue: dense, orange: masks" in picture.caption
    assert diagnosis().sentence() in picture.caption
    (colors,) = shown
    assert colors[2].tolist() == [45, 105, 190]
    assert colors[3].tolist() == [225, 130, 30]
    assert colors[4].tolist() == [120] * 3
    assert colors[5].tolist() == [236, 234, 230]
    blueness = (colors[:, 2].int() - colors[:, 0].int()).tolist()
    assert 0 < blueness[0] < blueness[6] < blueness[2]
