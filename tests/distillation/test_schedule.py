"""Learning rates against the reference and by hand."""

import numpy as np
import pytest

from pcdistill.distillation import (
    linear_learning_rate,
    one_cycle_learning_rate,
    openscene_release_learning_rate,
    polynomial_learning_rate,
)
from pcdistill.distillation.schedule import scheduled_learning_rate
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT64_EXACT


@pytest.mark.parametrize("file", golden_cases("distill/poly_lr*.npz"))
def test_polynomial_and_released_rates_are_the_reference(file):
    case = load_npz(file)
    base, total, power = float(case["base_lr"]), int(case["max_iter"]), float(case["power"])
    settings = {"base": base, "power": power}
    for iteration, rate, written in zip(
        case["iteration"].tolist(), case["lr"], case["optimizer_lr_after_iteration"], strict=True
    ):
        ours = polynomial_learning_rate(iteration, total, **settings)
        assert ours == pytest.approx(rate, rel=FLOAT64_EXACT)
        used_next = openscene_release_learning_rate(iteration + 1, total, **settings)
        assert used_next == pytest.approx(written, rel=FLOAT64_EXACT)
    assert openscene_release_learning_rate(0, total, **settings) == base


def test_linear_rate_goes_from_base_to_final():
    rates = [linear_learning_rate(i, 4) for i in range(7)]
    np.testing.assert_allclose(
        rates, np.array([10, 7.75, 5.5, 3.25, 1, 1, 1]) * 1e-5, rtol=FLOAT64_EXACT
    )


def test_polynomial_rate_by_hand():
    assert polynomial_learning_rate(3, 4, base=2.0, power=2.0) == pytest.approx(2 / 16)
    assert polynomial_learning_rate(4, 4) == 0
    assert openscene_release_learning_rate(4, 4, base=2.0, power=2.0) == pytest.approx(20 / 16)


def test_one_cycle_rises_then_falls_by_half_a_cosine():
    """Of 20 iterations three rise; the fall's middle has the mean of both rates."""
    rates = [one_cycle_learning_rate(i, 20, base=4.0, final=2.0) for i in range(21)]
    assert rates[:4] == pytest.approx([1, 2, 3, 4])
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    middle = one_cycle_learning_rate(115, 200, base=4.0, final=2.0)
    assert middle == pytest.approx(3)
    assert rates[20] == pytest.approx(2)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", 2.5), ("polynomial", 3 * 0.5**0.9), ("released", 30 * 0.75**0.9)],
)
def test_a_schedule_is_found_by_its_name(schedule, expected):
    rate = scheduled_learning_rate(schedule, 2, 4, base=3.0, final=2.0)
    assert rate == pytest.approx(expected)
    other = scheduled_learning_rate("one-cycle", 2, 4, base=3.0, final=2.0)
    assert other == one_cycle_learning_rate(2, 4, base=3.0, final=2.0)


@pytest.mark.parametrize(
    "rate",
    [
        linear_learning_rate,
        one_cycle_learning_rate,
        polynomial_learning_rate,
        openscene_release_learning_rate,
    ],
)
def test_impossible_iterations_are_named(rate):
    with pytest.raises(ValueError, match="total is 0, expected the number of iterations"):
        rate(0, 0)
    with pytest.raises(ValueError, match="iteration is -1"):
        rate(-1, 10)
