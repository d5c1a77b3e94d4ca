"""One seed, one home: the same bits on every processor."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pcdistill.homes
from tests.hidden_features import HIDDEN

DIGESTS = {
    "train/0 layout": "9c458beb10720b1f",
    "train/0 walk": "ffe67a07571008d9",
    "train/0 points": "a13a0b18d8238459",
    "train/0 images": "c53b6b3096c631fb",
    "train/0 depth": "7177de0810773be4",
    "validation/1 layout": "125dd2cabd0b1dd4",
    "validation/1 walk": "9777500ccd80e118",
    "validation/1 points": "d3956ca7a7569220",
    "validation/1 images": "c326cc20f3fc9a80",
    "validation/1 depth": "258ff4b41e3fab5b",
    "ray casters": "",
    "chair picture": "608b95b5d3814d10",
    "refrigerator picture": "de53305e3402f8b8",
    "curtain picture": "6a77a953cbfbd9fb",
}
"""Of `python -m tests.homes.digest`. They change when homes are generated otherwise, and then the
shipped numbers (README, docs/results.md) and the weights of the teachers are to be looked at."""

GENERATION = sorted(Path(pcdistill.homes.__file__).parent.glob("*.py"))
PORTABLE = "portable_math.py"

FORBIDDEN = {
    "math": {"sin", "cos", "tan", "exp", "pow", "hypot", "asin", "acos", "log"},
    "np": {
        *("sin", "cos", "tan", "exp", "exp2", "log", "power", "hypot", "arctan2", "arccos"),
        *("einsum", "dot", "matmul", "inner", "tensordot", "linalg"),
    },
    "torch": {"rand", "randn", "randint", "randperm", "linalg", "matmul", "einsum", "exp", "sin"},
}
"""Functions whose last bits hang on the processor, or on the number of values given at once."""


def run_digests(**environment: str) -> dict[str, str]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.homes.digest"],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_a_seed_gives_the_digests_that_are_written_down():
    assert run_digests() == DIGESTS


@pytest.mark.parametrize("hidden", sorted(HIDDEN))
def test_a_seed_gives_the_same_where_the_processor_can_do_less(hidden):
    assert run_digests(**HIDDEN[hidden]) == DIGESTS


@pytest.mark.parametrize("file", GENERATION, ids=lambda file: file.stem)
def test_generation_uses_no_function_that_processors_round_differently(file):
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            found.append(f"line {node.lineno}: @")
        names = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if names and file.name != PORTABLE and node.attr in FORBIDDEN.get(node.value.id, ()):
            found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
        if isinstance(node, ast.keyword) and node.arg == "fastmath":
            found.append(f"line {node.value.lineno}: fastmath")
    assert found == []
