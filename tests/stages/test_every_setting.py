"""No setting without a test that fails when it is ignored."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import get_type_hints

import pytest

from pcdistill.pipeline.config import RunConfig
from tests.stages.followed import FOLLOWED, alike, follows

FILES = sorted(Path(__file__).parent.glob("test_*_by_hand.py"))
SETTINGS = [
    f"{section}.{field.name}"
    for section, kind in get_type_hints(RunConfig).items()
    for field in dataclasses.fields(kind)
]


@pytest.fixture(scope="module", autouse=True)
def all_loaded():
    """Tests say what they follow as they are loaded."""
    for file in FILES:
        importlib.import_module(f"tests.stages.{file.stem}")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_followed_to_where_it_acts(setting):
    assert setting in FOLLOWED, (
        f"{setting} may be ignored and no test would see it: write one that yields what is found "
        "and what is right for two or more of its values, marked with @follows"
    )
    module, _, name = FOLLOWED[setting].rpartition(".")
    assert name.startswith("test_"), f"{name} is not collected"
    assert callable(getattr(importlib.import_module(module), name))


def test_what_is_followed_is_a_setting():
    assert set(FOLLOWED) <= set(SETTINGS)


def ignored():
    """A stage that does the same whatever it is told."""
    for value in (1, 2):
        yield 1, value


def same():
    """A right answer that does not depend on the value."""
    for _ in (1, 2):
        yield 1, 1


def one():
    yield 1, 1


@pytest.mark.parametrize("outcomes", [ignored, same, one])
def test_a_test_that_could_not_fail_is_refused(outcomes):
    test = follows("no.setting")(outcomes)
    del FOLLOWED["no.setting"]
    with pytest.raises(AssertionError):
        test()


def test_numbers_are_alike_to_rounding_only():
    assert alike({"a": [1.0, (2, "x")]}, {"a": [1.0 + 1e-7, (2, "x")]})
    assert not alike({"a": [1.0]}, {"a": [1.001]})
    assert not alike({"a": [1.0]}, {"b": [1.0]})
    assert not alike([1.0], [1.0, 1.0])
