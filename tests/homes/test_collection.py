"""Collections share no size and no finish; kinds of homes share no stream."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.homes import SPLITS, build_home, render_object_image
from pcdistill.homes.classes import CLASSES
from pcdistill.homes.collection import Draws, any_kind, choose, draws_like, measure
from pcdistill.homes.home import seed_sequence
from pcdistill.homes.materials import FABRIC_COLORS, PAINT_COLORS, WOOD_COLORS
from pcdistill.homes.object_images import _STREAMS

ROOT = Path(__file__).resolve().parents[2]


def draws(seed: int, collection) -> Draws:
    return Draws(np.random.SeedSequence(seed), collection)


@given(
    seed=st.integers(0, 2**32),
    low=st.floats(0.01, 3),
    reach=st.floats(0.01, 2),
)
def test_sizes_come_from_two_halves(seed, low, reach):
    middle = low + reach / 2
    assert measure(draws(seed, "homes"), low, low + reach) <= middle + 1e-9
    assert measure(draws(seed, "teacher"), low, low + reach) >= middle - 1e-9


@pytest.mark.parametrize("options", [FABRIC_COLORS, PAINT_COLORS, WOOD_COLORS, ("a", "a", "b")])
def test_finishes_are_never_shared(options):
    homes, teacher = draws(0, "homes"), draws(0, "teacher")
    mine = {choose(homes, options) for _ in range(300)}
    theirs = {choose(teacher, options) for _ in range(300)}
    assert mine.isdisjoint(theirs)
    assert mine | theirs == set(options)


def test_what_there_is_one_of_is_for_both():
    assert choose(draws(0, "teacher"), ("white",)) == "white"


def test_kinds_are_known_to_all():
    kinds = ("office", "wooden", "shell")
    for collection in ("homes", "teacher"):
        rng = draws(1, collection)
        assert {any_kind(rng, kinds) for _ in range(100)} == set(kinds)


def test_a_plain_generator_draws_from_both():
    rng = np.random.default_rng(0)
    sizes = [measure(rng, 0, 1) for _ in range(200)]
    assert min(sizes) < 0.2
    assert max(sizes) > 0.8
    assert {choose(rng, "ab") for _ in range(50)} == {"a", "b"}
    assert not isinstance(draws_like(rng, 1), Draws)


def test_a_new_generator_keeps_the_collection():
    assert draws_like(draws(0, "teacher"), 5).collection == "teacher"


def test_chairs_around_a_table_are_of_the_home_s_collection():
    """Colours of paint and wood that homes do not use are in no home."""
    for seed in range(4):
        for split, collection in (("train", "homes"), ("teacher", "teacher")):
            rng = draws(0, collection)
            usable = {choose(rng, (*WOOD_COLORS,)) for _ in range(200)}
            wooden = {
                one.color
                for one in build_home(seed, split).instances
                if one.category == "chair" and one.material == "wood"
            }
            assert wooden <= usable


def test_kinds_of_homes_and_pictures_share_no_stream():
    streams = [split.stream for split in SPLITS.values()] + list(_STREAMS.values())
    assert len(set(streams)) == len(streams)
    assert 3 not in streams  # taught teachers that earlier versions shipped
    first = {seed_sequence(split, 7).generate_state(4).tobytes() for split in SPLITS}
    assert len(first) == len(SPLITS)


def test_only_the_teacher_s_homes_are_of_the_teacher_s_collection():
    assert {n for n, split in SPLITS.items() if split.collection == "teacher"} == {"teacher"}


def test_pictures_of_two_collections_differ():
    for category in CLASSES[3:8]:
        mine = render_object_image(category, 1, image_size=(48, 64))
        theirs = render_object_image(category, 1, image_size=(48, 64), collection="teacher")
        assert not mine.rendering.image.equal(theirs.rendering.image)


def test_nothing_but_the_benchmark_scans_test_homes():
    """Settings are chosen on development homes; test homes are for what is reported."""
    asks = re.compile(r"test-train|test-validation|homes[=:]\s*['\"]?test\b")
    allowed = {
        "pcdistill/homes/home.py",
        "pcdistill/pipeline/config.py",
        "pcdistill/stages/ingest.py",
        "tools/benchmarks/homes.py",
        "tools/benchmarks/homes.yaml",
    }
    files = [*ROOT.glob("pcdistill/**/*"), *ROOT.glob("tools/**/*"), *ROOT.glob("configs/*")]
    found = {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in (".py", ".yaml") and asks.search(path.read_text())
    }
    assert found <= allowed
