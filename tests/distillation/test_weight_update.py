"""One change of the weights by hand: optimizers, clipping, averages, scaled losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pcdistill.distillation.distributed import ALONE
from pcdistill.distillation.settings import TrainerSettings
from pcdistill.distillation.weight_average import WeightAverage
from pcdistill.distillation.weight_update import WeightUpdate
from pcdistill.errors import ConfigError
from tests.tolerances import FLOAT32_SUMS

CPU = torch.device("cpu")
RATE = 0.1
WEIGHTS = (1.0, -2.0)
SLOPES = (3.0, 4.0)
"""Gradient of the loss in `change`, whose length is 5."""


class Pair(nn.Module):
    """Two weights in parameters of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.tensor([WEIGHTS[0]]))
        self.two = nn.Parameter(torch.tensor([WEIGHTS[1]]))
        self.register_buffer("steps", torch.tensor(0))


def update(**changes) -> tuple[Pair, WeightUpdate]:
    pair = Pair()
    return pair, WeightUpdate(pair, TrainerSettings(learning_rate=RATE, **changes), CPU, ALONE)


def change(pair: Pair, updater: WeightUpdate, slopes=SLOPES) -> float:
    updater.backward((pair.one * slopes[0] + pair.two * slopes[1]).sum())
    pair.steps += 1
    return updater.step()


def values(pair: Pair) -> tuple[float, float]:
    return pair.one.item(), pair.two.item()


def test_adam_s_first_step_is_its_rate_in_the_direction_of_each_gradient():
    pair, updater = update()
    assert change(pair, updater) == pytest.approx(5)
    assert values(pair) == pytest.approx((0.9, -2.1))
    assert pair.one.grad is None


def test_adamw_takes_decay_off_the_weights_and_adam_adds_it_to_the_gradients():
    pair, updater = update(optimizer="adamw", weight_decay=0.5)
    change(pair, updater)
    assert values(pair) == pytest.approx((1.0 * 0.95 - 0.1, -2.0 * 0.95 - 0.1))
    pair, updater = update(optimizer="adam", weight_decay=3.0)
    change(pair, updater)  # gradients 3 + 3 * 1 and 4 - 3 * 2
    assert values(pair) == pytest.approx((0.9, -1.9))
    for kind in ("adam", "adamw"):
        pair, updater = update(optimizer=kind)
        for slopes in (SLOPES, (-1.0, 0.5)):
            change(pair, updater, slopes)
        same = values(pair) if kind == "adam" else same  # noqa: F821 (of the first)
        assert values(pair) == same


@pytest.mark.parametrize(("limit", "factor"), [(0.0, 1.0), (5.5, 1.0), (2.5, 0.5)])
def test_gradients_are_shortened_together(limit, factor):
    """Adam's own step does not depend on their length, but what it remembers of them does."""
    pair, updater = update(max_gradient_norm=limit)
    assert change(pair, updater) == pytest.approx(5)
    moments = updater.state()
    assert float(moments["exp_avg/one"]) == pytest.approx(0.1 * 3 * factor)
    assert float(moments["exp_avg/two"]) == pytest.approx(0.1 * 4 * factor)


def test_gradients_of_several_losses_are_added():
    pair, updater = update()
    updater.backward(pair.one.sum() * 1.0)
    updater.backward(pair.one.sum() * 2.0 + pair.two.sum() * 4.0)
    assert updater.step() == pytest.approx(5)


def test_the_average_keeps_a_share_of_the_past():
    """The first steps keep 2/11 and 3/12 of it, less than the decay."""
    pair, updater = update(ema_decay=0.2)
    average = updater.average
    assert average is not None
    expected = list(WEIGHTS)
    for keep in (2 / 11, 0.2):
        change(pair, updater)
        expected = [keep * a + (1 - keep) * w for a, w in zip(expected, values(pair), strict=True)]
    own = values(pair)
    with average.in_network():
        assert values(pair) == pytest.approx(tuple(expected))
        assert int(pair.steps) == 2  # whole numbers are the last ones
    assert values(pair) == own
    assert abs(own[0] - expected[0]) > 1e-3
    with pytest.raises(RuntimeError), average.in_network():
        raise RuntimeError
    assert values(pair) == own


def test_without_a_decay_there_is_no_average():
    pair, updater = update()
    change(pair, updater)
    assert updater.average is None
    assert not [key for key in updater.state() if key.startswith(("average/", "scaler/"))]


def test_an_average_goes_on_where_it_was():
    def moved(pair: Pair, by: float, average: WeightAverage) -> None:
        with torch.no_grad():
            pair.one += by
        average.update()

    pair, other = Pair(), Pair()
    average = WeightAverage(pair, 0.9)
    moved(pair, 1.0, average)
    other.load_state_dict(pair.state_dict())
    again = WeightAverage(other, 0.9)
    again.load_state({key: value.clone() for key, value in average.state().items()})
    moved(pair, -3.0, average)
    moved(other, -3.0, again)
    for key, value in average.state().items():
        assert torch.equal(again.state()[key], value), key
    assert float(average.state()["one"]) == pytest.approx(0.25 * (2 - 2 / 11) + 0.75 * -1)


def test_scaled_losses_make_the_same_step():
    pair, updater = update(precision="float16", max_gradient_norm=2.5)
    assert change(pair, updater) == pytest.approx(5)  # of the loss as it was
    assert float(updater.state()["exp_avg/one"]) == pytest.approx(0.1 * 1.5)
    assert values(pair) == pytest.approx((0.9, -2.1), rel=FLOAT32_SUMS)


def test_a_step_without_finite_gradients_is_left_out_and_losses_are_scaled_less():
    pair, updater = update(precision="float16", max_gradient_norm=2.5)
    change(pair, updater)
    before, scale = values(pair), float(updater.state()["scaler/scale"])
    norm = change(pair, updater, (math.inf, 1.0))
    assert not math.isfinite(norm)
    assert values(pair) == before
    assert float(updater.state()["scaler/scale"]) == scale / 2
    change(pair, updater)
    assert values(pair) != before


def test_the_scale_of_losses_goes_on_where_it_was():
    pair, updater = update(precision="float16")
    for slopes in ((math.inf, 1.0), SLOPES, SLOPES):
        change(pair, updater, slopes)
    state = updater.state()
    assert int(state["scaler/since"]) == 2
    other = WeightUpdate(pair, TrainerSettings(precision="float16"), CPU, ALONE)
    other.load_state(state)
    for key in ("scaler/scale", "scaler/since"):
        assert torch.equal(other.state()[key], state[key])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_decay": -0.1}, r"distill\.weight_decay must be >= 0, got -0\.1"),
        ({"accumulate": 0}, r"distill\.accumulate must be from 1 to distill.batch_size \(12\)"),
        ({"accumulate": 13}, r"distill\.accumulate must be from 1 .*, got 13"),
        ({"max_gradient_norm": -1.0}, r"distill\.max_gradient_norm must be 0 \(off\) or more"),
        ({"ema_decay": 1.0}, r"distill\.ema_decay must be in \[0, 1\), got 1"),
    ],
)
def test_values_out_of_range_are_named(changes, words):
    with pytest.raises(ConfigError, match=words):
        TrainerSettings(**changes)
