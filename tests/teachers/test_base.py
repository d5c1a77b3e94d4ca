"""What teachers return can be sampled at points and read as classes."""

from __future__ import annotations

from importlib.resources import as_file, files

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pcdistill.scenes import load_vocabulary
from pcdistill.teachers import (
    FeatureMap,
    LabelledMasks,
    TeacherSetup,
    build_teacher,
    build_text_encoder,
    taught_words,
)
from pcdistill.teachers.demo.network import load_network


@given(
    seed=st.integers(0, 2**31),
    corners=st.booleans(),
    grid=st.tuples(st.integers(2, 6), st.integers(2, 6)),
)
def test_a_map_classifies_as_its_upsampled_features_would(seed, corners, grid):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(5, *grid, generator=generator)
    text = torch.randn(4, 5, generator=generator)
    size = (13, 17)
    upsampled = functional.interpolate(
        features[None], size, mode="bilinear", align_corners=corners
    )[0]
    scores = torch.einsum("dhw,kd->khw", upsampled, text)
    found = FeatureMap(features, size, corners).classify(text)
    chosen = scores.gather(0, found[None])[0]
    torch.testing.assert_close(chosen, scores.amax(dim=0))


def test_a_map_is_sampled_where_it_would_be_indexed():
    features = torch.arange(24.0).reshape(2, 3, 4)
    size = (9, 12)
    whole = functional.interpolate(features[None], size, mode="bilinear", align_corners=False)[0]
    pixels = torch.tensor([[0, 0], [11, 8], [5, 3]])
    sampled = FeatureMap(features, size).sample(pixels)
    torch.testing.assert_close(sampled, whole[:, pixels[:, 1], pixels[:, 0]].T)


def masks() -> LabelledMasks:
    ids = torch.tensor([[0, 0, -1], [1, 1, -1]], dtype=torch.int32)
    return LabelledMasks(ids, torch.eye(3)[:2], ("bed", "sofa"), ("a red bed", "a blue sofa"))


def test_masks_are_read_at_column_and_row():
    assert masks().image_size == (2, 3)
    assert masks().mask_at(torch.tensor([[0, 1], [2, 0], [1, 0]])).tolist() == [1, -1, 0]


def test_masks_classify_by_their_embedding_and_leave_the_rest_open():
    text = torch.eye(3)[[2, 1, 0]]
    assert masks().classify(text).tolist() == [[2, 2, -1], [1, 1, -1]]


def test_no_masks_say_nothing():
    empty = LabelledMasks(torch.full((2, 2), -1, dtype=torch.int32), torch.zeros(0, 3), (), ())
    assert empty.classify(torch.eye(3)).tolist() == [[-1, -1], [-1, -1]]


class Taught:
    """A teacher that says what it was taught."""

    name, text_space, dimensions, provenance = "taught", "toy", 3, {"revision": "1"}
    taught = ("Sofa", "other furniture", "bed")

    def __call__(self, image):
        return masks()


class Silent:
    """One that cannot."""

    name, text_space, dimensions, provenance = "silent", "toy", 3, {"revision": "1"}

    def __call__(self, image):
        return masks()


def test_what_a_teacher_was_taught_are_words_of_the_vocabulary():
    assert taught_words(Taught(), ("bed", "door", "sofa")) == ("bed", "sofa")
    assert taught_words(Taught(), ("door",)) == ()
    assert taught_words(Silent(), ("bed",)) is None


@pytest.mark.parametrize("name", ["demo-dense", "demo-masks"])
def test_the_embedded_teachers_say_the_labels_of_their_training(name):
    """Of the file of their weights; not every word of the vocabulary."""
    file = (
        files("pcdistill.teachers.demo") / "weights" / f"{name.removeprefix('demo-')}.safetensors"
    )
    with as_file(file) as path:
        _, details = load_network(path)
    teacher = build_teacher(name, TeacherSetup(build_text_encoder()))
    assert teacher.taught == tuple(details["labels"])
    assert "labels" not in teacher.provenance
    words = taught_words(teacher, load_vocabulary("indoor"))
    assert 3 < len(words) < len(load_vocabulary("indoor"))
