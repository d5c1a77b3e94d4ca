"""Sentences about differences follow from their intervals."""

from __future__ import annotations

import pytest

from pcdistill.evaluation import (
    Comparison,
    PairedDifference,
    comparison_sentence,
    enumerated,
    interval_note,
    reach_sentence,
)


def compared(second: str, difference: float, low: float | None, high: float | None) -> Comparison:
    return Comparison("fused", second, PairedDifference(difference, low, high, 4, 1))


AHEAD = compared("average", 3.3, 1.0, 5.2)
FARTHER = compared("linear", 6.0, 2.0, 9.9)
BEHIND = compared("oracle", -4.0, -6.0, -2.04)
EVEN = compared("binary", -1.2, -3.0, 0.4)
ALONE = compared("average", 3.3, None, None)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ([AHEAD], "fused: ahead of average (+3.3 [1.0, 5.2])"),
        (
            [BEHIND, AHEAD, EVEN, FARTHER],
            "fused: ahead of average (+3.3 [1.0, 5.2]) and linear (+6.0 [2.0, 9.9]); "
            "behind oracle (-4.0 [-6.0, -2.0]); "
            "no difference that the 4 homes can tell from binary (-1.2 [-3.0, 0.4])",
        ),
        ([ALONE], "fused: away from average (+3.3)"),
    ],
)
def test_what_is_said_follows_from_the_intervals(found, sentence):
    assert comparison_sentence(found, "the 4 homes") == sentence


def test_what_is_not_reached_is_said_first():
    said = reach_sentence([AHEAD, EVEN, BEHIND], "the 4 homes", {"oracle": "its targets"})
    assert said == (
        "fused does not reach oracle (its targets, -4.0 [-6.0, -2.0]); "
        "is ahead of average (+3.3 [1.0, 5.2]); "
        "shows no difference that the 4 homes can tell from binary (-1.2 [-3.0, 0.4])"
    )
    assert "does not reach" not in reach_sentence([AHEAD, EVEN], "the 4 homes", {})


def test_it_is_said_what_the_brackets_are():
    assert interval_note(4, "homes") == (
        "differences are points of mIoU, in brackets the 95 % interval of a paired bootstrap over "
        "4 homes; of 4 it is rather too narrow"
    )
    assert interval_note(20, "homes", seeds=5).endswith("over 5 seeds and their 20 homes")
    assert "no interval" in interval_note(1, "scenes")


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_enumerated(names, text):
    assert enumerated(names) == text
