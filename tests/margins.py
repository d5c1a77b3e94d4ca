"""A plugin for pytest that lists the assertions which came closest to failing.

    PYTHONPYCACHEPREFIX=/tmp/pyc python -m pytest -p tests.margins \\
        -o enable_assertion_pass_hook=true tests/sparse

Run it under other seeds (PCDISTILL_TEST_SEED=1) and with features of the processor hidden
(tests/hidden_features.py): what is close to its threshold on one machine is red on another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

LISTED = 60
CLOSE = 0.1
"""Listed are values less than this part of their threshold away from it, and errors of more than
half of what is allowed."""

NUMBER = r"(?:tensor|np\.float(?:32|64)|array)?\(?(-?\d+\.?\d*(?:e[-+]?\d+)?)(?:, dtype=[\w.]+)?\)?"
COMPARED = re.compile(rf"^(?:abs\()?{NUMBER} (<=?|>=?) {NUMBER}$")

found: dict[str, tuple[float, str]] = {}
running = ""


def note(place: str, distance: float, said: str) -> None:
    """Keep the closest of what happens at one place, over all its runs."""
    if place not in found or distance < found[place][0]:
        found[place] = (distance, said)


def pytest_runtest_call(item: pytest.Item) -> None:
    """Know which test asks."""
    global running
    running = item.nodeid


def pytest_assertion_pass(item: pytest.Item, lineno: int, orig: str, expl: str) -> None:
    """Note how far apart two compared numbers are."""
    match = COMPARED.match(expl.split("\n")[0].removeprefix("assert ").strip())
    if match is None or not re.search(r"\d*\.\d|e-", orig):  # counts are exact
        return
    value, threshold = float(match[1]), float(match[3])
    if not value or not threshold:
        return
    room = abs(value - threshold) / abs(threshold)
    if 0.5 < threshold < 1:  # a share
        room = min(room, abs(value - threshold) / (1 - threshold))
    if room < 5 * CLOSE:
        place = f"{item.nodeid.split('[')[0]}:{lineno}"
        note(place, room, f"{expl.splitlines()[0]}    ({orig})")


def _note_error(actual: Any, expected: Any, rtol: float, atol: float) -> None:
    one, other = (
        np.asarray(v.detach().cpu().double() if torch.is_tensor(v) else v)
        for v in (actual, expected)
    )
    if one.shape != other.shape or one.dtype.kind not in "fiu" or not one.size:
        return
    error, allowed = abs(one.astype(float) - other), atol + rtol * abs(other.astype(float))
    used = np.nanmax(np.where(error > 0, error / np.maximum(allowed, 1e-300), 0))
    if used > 0.25:
        note(running, 1 - used, f"{used:.2f} of rtol={rtol:g} atol={atol:g} is used")


def _watched_torch(check: Callable[..., None]) -> Callable[..., None]:
    def watched(actual: Any, expected: Any, **options: Any) -> None:
        check(actual, expected, **options)
        for one, other in zip(
            *(v if isinstance(v, (list, tuple)) else [v] for v in (actual, expected)), strict=True
        ):
            kind = getattr(one, "dtype", torch.float64)
            default = {torch.float64: (1e-7, 1e-7), torch.float32: (1.3e-6, 1e-5)}.get(kind, (0, 0))
            rtol, atol = options.get("rtol"), options.get("atol")
            _note_error(
                one,
                other,
                default[0] if rtol is None else rtol,
                default[1] if atol is None else atol,
            )

    return watched


def _watched_numpy(check: Callable[..., None]) -> Callable[..., None]:
    def watched(
        actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any
    ) -> None:
        check(actual, desired, rtol=rtol, atol=atol, **options)
        one, other = np.broadcast_arrays(np.asarray(actual), np.asarray(desired))
        _note_error(one, other, rtol, atol)

    return watched


torch.testing.assert_close = _watched_torch(torch.testing.assert_close)
np.testing.assert_allclose = _watched_numpy(np.testing.assert_allclose)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the closest."""
    terminalreporter.section("closest to failing")
    for place, (room, said) in sorted(found.items(), key=lambda entry: entry[1][0])[:LISTED]:
        terminalreporter.write_line(f"{100 * room:6.1f} %  {place}\n          {said}")
