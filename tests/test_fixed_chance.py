"""No test draws other numbers on another day, in another order or beside other tests."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LONGEST, REPOSITORY
from tests.fixed_chance import seed_generators

TESTS = REPOSITORY / "tests"
OWN = {"test_fixed_chance.py", "fixed_chance.py"}
OWN_STATE = {
    "random": {"Random"},
    "np.random": {"Generator", "default_rng", "SeedSequence", "RandomState"},
}
"""What makes a generator instead of drawing from the one that all share."""


def global_draws(file: Path) -> list[str]:
    """Lines that draw from the generators of numpy or Python, shared or unseeded."""
    text = file.read_text()
    owners = {name for name in OWN_STATE if name != "random" or "import random\n" in text}
    found = []
    for node in ast.walk(ast.parse(text)):
        said = ""
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            said = f"from {node.module} import"
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value).replace("numpy.random", "np.random")
            if owner in owners and node.attr not in OWN_STATE[owner]:
                said = f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call) and not node.args:
            made = ast.unparse(node.func)
            if made.endswith((".default_rng", "random.Random", "RandomState")):
                said = f"{made} without a seed"
        if said:
            found.append(f"{file.relative_to(TESTS)}:{node.lineno}: {said}")
    return found


@pytest.mark.parametrize("folder", sorted({file.parent for file in TESTS.rglob("*.py")}))
def test_nobody_draws_from_the_generators_that_all_share(folder):
    """torch's own is seeded for each test; numpy and Python have handier generators."""
    drawn = [
        line
        for file in sorted(folder.glob("*.py"))
        if file.name not in OWN
        for line in global_draws(file)
    ]
    assert not drawn, "draw from numpy.random.default_rng(seed) or random.Random(seed):\n" + (
        "\n".join(drawn)
    )


def draw() -> tuple[float, float, float]:
    """A number of each generator that all share."""
    return float(torch.rand(())), float(np.random.random()), random.random()  # noqa: NPY002


@pytest.fixture(scope="module")
def drawn_for_all() -> tuple[float, float, float]:
    return draw()


def test_the_name_of_a_test_fixes_what_it_draws(drawn_for_all, request):
    here = draw()
    seed_generators(request.node.nodeid)
    assert here == draw()
    seed_generators("tests/test_fixed_chance.py::drawn_for_all")
    assert drawn_for_all == draw()
    assert here != drawn_for_all


FIRST: list[float] = []


@given(example=st.integers(0, 9))
def test_every_example_of_hypothesis_draws_the_same(example):
    FIRST.append(float(torch.rand(())))
    assert FIRST[-1] == FIRST[0]


@pytest.mark.parametrize("file", LONGEST)
def test_the_files_that_come_first_are_there(file):
    assert (TESTS / file).is_file(), f"{file} was renamed: mend LONGEST in tests/conftest.py"
