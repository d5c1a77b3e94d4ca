"""The table that comes with the package is that of its teachers, and measures what it says."""

from __future__ import annotations

import dataclasses

import pytest

from pcdistill.capability import build_generator, build_segmenter
from pcdistill.capability.interfaces import SynthesisSetup
from pcdistill.capability.masks import intersection_and_union
from pcdistill.capability.pseudo_masks import NoMask, pseudo_mask
from pcdistill.pipeline.capability_files import shipped_tables
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.context import RunContext
from pcdistill.teachers import (
    TeacherSetup,
    build_teacher,
    build_text_encoder,
    embed_names,
    teacher_revision,
)
from tests.conftest import REPOSITORY

OWN_SCANS = ("own_scan", "rgbd", "replica", "arkitscenes", "scannetpp")


@pytest.fixture(scope="module")
def encoder():
    return build_text_encoder()


@pytest.mark.parametrize("name", OWN_SCANS)
def test_a_run_on_an_own_scan_takes_its_scores_from_it(name):
    run = RunContext(load_config(REPOSITORY / "configs" / f"{name}.yaml"))
    found = run.capability_table
    assert found is not None
    assert found.origin == "the table that comes with the package"
    assert set(run.config.run.teachers) <= set(found.table.teachers)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"steps": 20, "model": "stable-diffusion-xl", "batch": 1, "image_size": (64, 64)}, True),
        ({"images": 3}, True),
        ({"generator": "stable-diffusion"}, False),
        ({"prompt": "a photo of a {}"}, False),
    ],
)
def test_it_counts_where_images_would_be_such_as_it_was_measured_on(changes, found):
    """The embedded generator takes none of the settings of a diffusion model."""
    config = load_config(REPOSITORY / "configs" / f"{OWN_SCANS[0]}.yaml")
    changed = dataclasses.replace(config.synthesize, **changes)
    run = RunContext(dataclasses.replace(config, synthesize=changed))
    assert (run.capability_table is not None) == found


def test_the_demo_measures_its_teachers_itself():
    assert RunContext(load_config(REPOSITORY / "configs" / "demo.yaml")).capability_table is None


def test_its_teachers_are_those_of_the_package(encoder):
    for table in shipped_tables():
        assert {"detector", "demo-dense", "demo-masks"} <= set(table.teachers)
        for name, scores in table.teachers.items():
            teacher = build_teacher(name, TeacherSetup(encoder))
            assert scores.revision == teacher_revision(teacher), (
                f"{name} has other weights: measure the table anew (docs/teachers/embedded.md)"
            )


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["demo-dense", "detector"])
def test_its_numbers_come_out_again(name, encoder):
    """Of the first images of one word; processors differ by some pixels."""
    word = {"demo-dense": "door", "detector": "toilet"}[name]
    (table,) = shipped_tables()
    settings, setup = table.synthesis["settings"], SynthesisSetup()
    generator = build_generator(settings["generator"], setup)
    segmenter = build_segmenter(settings["segmenter"], setup)
    words = tuple(table.prompts)
    embeddings = embed_names(encoder, "a {}", words)
    teacher = build_teacher(name, TeacherSetup(encoder))
    counted = 0
    for number in range(4):
        generated = generator(settings["prompt"].replace("{}", word), word, number)
        mask = pseudo_mask(
            generated,
            segmenter,
            settings["threshold"],
            settings["prompt_points"],
            clean_border=settings["clean_border"],
        )
        if isinstance(mask, NoMask):
            continue
        found = teacher(generated.image).classify(embeddings) == words.index(word)
        inside, either = intersection_and_union(found, mask)
        stored = table.teachers[name].overlaps[word]
        assert int(inside) == pytest.approx(stored.intersections[counted], rel=0.03, abs=30)
        assert int(either) == pytest.approx(stored.unions[counted], rel=0.03, abs=30)
        counted += 1
    assert counted >= 2
