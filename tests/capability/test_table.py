"""Capability tables: what they keep, whose scores they are, and how sure these are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.capability import (
    CapabilityMeter,
    CapabilityTable,
    ImageOverlaps,
    TeacherScores,
    table_from_json,
    table_to_json,
)
from pcdistill.errors import ArtifactError

CHAIR = ImageOverlaps((3, 0, 10), (4, 5, 20))
TABLE = CapabilityTable(
    "static",
    {"chair": "a chair", "wall": "a wall"},
    {"settings": {"images": 3}},
    {
        "dense": TeacherScores(
            "d1", {"chair": CHAIR, "wall": ImageOverlaps((), ())}, ("chair",), False, {"a": "b"}
        ),
        "masks": TeacherScores("m1", {"chair": CHAIR, "wall": CHAIR}, None, True),
    },
)
pixels = st.integers(0, 10**6)
overlaps = st.lists(st.tuples(pixels, pixels), max_size=6).map(
    lambda pairs: ImageOverlaps(
        tuple(min(pair) for pair in pairs), tuple(max(pair) for pair in pairs)
    )
)


def test_scores_by_hand():
    assert CHAIR.score() == pytest.approx((0.75 + 0 + 0.5) / 3)
    assert CHAIR.score(pooled=True) == 13 / 29
    assert ImageOverlaps((), ()).score() == 0
    assert ImageOverlaps((0,), (0,)).score() == 0  # two empty masks


@settings(max_examples=30, deadline=None)
@given(overlaps, st.booleans())
def test_an_interval_holds_the_score_and_lies_within_its_images(found, pooled):
    interval = found.interval(pooled=pooled)
    if len(found.unions) < 2:
        assert interval is None
        return
    low, high = interval
    worst, best = min(found.ious()), max(found.ious())
    assert worst - 1e-12 <= low <= high <= best + 1e-12
    assert found.interval(pooled=pooled) == interval


def test_an_interval_has_the_ends_that_resampling_gives():
    """Against the binomial: of images found wholly or not at all, the share that is found."""
    images = 40
    found = ImageOverlaps((1,) * 28 + (0,) * 12, (1,) * images)
    low, high = found.interval()
    draws = np.random.default_rng(5).binomial(images, 0.7, 200_000) / images
    assert low == pytest.approx(np.quantile(draws, 0.025), abs=0.026)  # a step is 0.025
    assert high == pytest.approx(np.quantile(draws, 0.975), abs=0.026)


@pytest.mark.parametrize("pooled", [False, True])
def test_more_images_make_it_narrower(pooled):
    def width(times):
        low, high = ImageOverlaps(CHAIR.intersections * times, CHAIR.unions * times).interval(
            pooled=pooled
        )
        return high - low

    assert width(1) > width(4) > width(16) > 0
    assert width(16) == pytest.approx(width(4) / 2, rel=0.15)  # as the root of the number


def test_it_comes_back_as_it_was():
    stored = json.loads(json.dumps(table_to_json(TABLE)))
    assert table_from_json(stored, "t.json") == TABLE


@pytest.mark.parametrize("order", [("dense", "masks"), ("masks", "dense")])
def test_permuted_teachers_give_a_permuted_table(order):
    generator = torch.Generator().manual_seed(0)
    shown = {name: torch.rand(2, 3, 6, 7, generator=generator) < 0.5 for name in ("dense", "masks")}
    pseudo = torch.rand(2, 3, 6, 7, generator=generator) < 0.5
    rows = {}
    for name in order:
        meter = CapabilityMeter(2)
        for category in (1, 0):
            meter.update(category, shown[name][category], pseudo[category])
        rows[name] = meter.overlaps
        assert meter.images.tolist() == [3, 3]
    for name, masks in shown.items():
        both = (masks & pseudo).sum(dim=(2, 3)).tolist()
        assert [list(found.intersections) for found in rows[name]] == both
    assert list(rows) == list(order)


def asked(**changes):
    whole = {
        "text_encoder": "static",
        "prompts": {"wall": "a wall", "chair": "a chair"},
        "teachers": {"masks": "m1"},
        **changes,
    }
    return TABLE.differs_in(whole["text_encoder"], whole["prompts"], whole["teachers"])


def test_it_knows_whose_scores_it_has():
    assert asked() is None
    assert asked(teachers={"masks": "m1", "dense": "d1"}) is None
    assert asked(teachers={"seem": "s"}) == "has no scores of 'seem', only of dense, masks"
    assert asked(teachers={"masks": "m2"}) == (
        "has scores of 'masks' with revision m1, but the run has m2"
    )
    assert asked(text_encoder="clip") == "was measured with text encoder 'static', not 'clip'"
    assert asked(prompts={"wall": "a wall"}) == (
        "was measured among other words, of which 'chair' is in only the table"
    )
    assert asked(prompts={"wall": "a wall", "chair": "a chair", "sky": "a sky"}) == (
        "was measured among other words, of which 'sky' is in only the run"
    )
    assert asked(prompts={"wall": "wall", "chair": "a chair"}) == (
        "was measured with 'a wall' for 'wall', not with 'wall'"
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda stored: [], "is no capability table of this version"),
        (lambda stored: {**stored, "format": "other"}, "is no capability table of this version"),
        (
            lambda stored: {**stored, "format": "pcdistill capability table 2"},
            'is a capability table of another version \\("pcdistill capability table 2"\\), exp',
        ),
        (lambda stored: {**stored, "prompts": []}, "is damaged or was edited"),
        (lambda stored: {**stored, "teachers": {"a": {}}}, "is damaged or was edited"),
        (
            lambda stored: {**stored, "prompts": {**stored["prompts"], "sky": "a sky"}},
            "is damaged or was edited",
        ),
        (
            lambda stored: json.loads(json.dumps(stored).replace("[3, 0, 10]", "[3, 6, 10]")),
            "an intersection is negative or larger than its union",
        ),
        (
            lambda stored: json.loads(json.dumps(stored).replace("[3, 0, 10]", "[3, 10]")),
            "is damaged or was edited",
        ),
        (
            lambda stored: json.loads(json.dumps(stored).replace("[3, 0, 10]", "[3, 0, 1e999]")),
            "is damaged or was edited",
        ),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(spoil, said):
    stored = json.loads(json.dumps(table_to_json(TABLE)))
    with pytest.raises(ArtifactError, match=said) as caught:
        table_from_json(spoil(stored), "t.json")
    assert str(caught.value).startswith("t.json: ")
    assert "\n" not in str(caught.value)


def test_it_is_a_value():
    assert replace(TABLE, text_encoder="other") != TABLE
