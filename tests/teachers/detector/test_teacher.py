"""The teacher of photographs: what it names, where, and what it keeps to itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.capability.generators.rendered import RenderedImageGenerator
from pcdistill.scenes import load_vocabulary
from pcdistill.teachers import (
    GeometryTeacher,
    PhotoDetector,
    SelectiveTeacher,
    TeacherSetup,
    build_teacher,
    build_text_encoder,
    predict_batch,
    taught_words,
)
from pcdistill.teachers.detector.boxes import Boxes
from pcdistill.teachers.detector.network import CLASSES
from pcdistill.teachers.detector.teacher import drop_contradicted, paint_masks

CHAIR, TABLE, CUP = (CLASSES.index(name) for name in ("chair", "dining table", "cup"))


@pytest.fixture(scope="module")
def teacher():
    return build_teacher("detector", TeacherSetup(build_text_encoder()))


@pytest.fixture(scope="module")
def photograph(data_root):
    image = Image.open(data_root / "rgbd_frames" / "color" / "350.jpg")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(scope="module")
def seen(teacher, photograph):
    return teacher(photograph)


def label_at(seen, column, row):
    number = int(seen.mask_ids[row, column])
    return None if number < 0 else seen.labels[number]


@pytest.mark.parametrize(
    ("column", "row", "label"),
    [
        (320, 420, "table"),
        (342, 244, "cup"),  # on the table, whose box goes around it
        (140, 160, "chair"),
        (460, 190, "chair"),
        (230, 100, None),  # the worktop
    ],
)
def test_what_is_where_in_a_kitchen(seen, column, row, label):
    """Looked up by eye in the photograph."""
    assert label_at(seen, column, row) == label


def test_captions_say_the_label_twice_and_a_color_that_is_there(seen):
    for label, caption in zip(seen.labels, seen.captions, strict=True):
        assert caption.startswith(f"{label}: a")
    assert any(caption.endswith("dining table") for caption in seen.captions)


def test_masks_are_embedded_by_the_encoder_of_the_run(teacher, seen):
    expected = build_text_encoder().encode(seen.captions)
    torch.testing.assert_close(seen.embeddings, expected)
    assert teacher.text_space == build_text_encoder().text_space


def test_words_that_the_encoder_does_not_know_are_not_said(teacher):
    assert "giraffe" not in teacher.taught
    assert {"chair", "couch", "sofa", "table", "dining table"} <= set(teacher.taught)
    words = taught_words(teacher, load_vocabulary("indoor"))
    assert set(words) == {"table", "sofa", "bed", "toilet", "sink", "chair", "refrigerator"}


def test_nothing_is_said_of_an_empty_picture(teacher):
    blank = teacher(torch.full((3, 60, 80), 127, dtype=torch.uint8))
    assert blank.labels == ()
    assert blank.embeddings.shape == (0, teacher.dimensions)
    assert (blank.mask_ids == -1).all()


def test_a_batch_is_seen_as_one_at_a_time(teacher, photograph, seen):
    both = predict_batch(teacher, torch.stack([photograph, photograph.flip(2)]))
    assert both[0].labels == seen.labels
    assert (both[0].mask_ids != seen.mask_ids).float().mean() < 0.001


def test_it_follows_the_surface_and_is_silent_about_much(teacher):
    assert isinstance(teacher, GeometryTeacher)
    assert isinstance(teacher, SelectiveTeacher)
    assert 0 < teacher.min_spoken < 1
    for key in ("training", "revision", "licence", "source"):
        assert teacher.provenance[key]


def boxes(*rows):
    """Rows of (x0, y0, x1, y1, class), the surest first."""
    table = torch.tensor(rows, dtype=torch.float32)
    return Boxes(table[:, :4], torch.linspace(0.9, 0.4, len(rows)), table[:, 4].long())


def filled(found, shape=(40, 40)):
    masks = torch.zeros(len(found.scores), *shape, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, found.corners.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def test_the_surer_of_two_masks_counts_where_they_overlap():
    found = boxes((0, 0, 20, 20, CHAIR), (10, 0, 30, 20, TABLE))
    ids, rows = paint_masks(filled(found), found, 1)
    assert rows == [0, 1]
    assert ids[5, [5, 15, 25, 35]].tolist() == [0, 0, 1, -1]


def test_a_thing_on_a_surer_larger_one_keeps_its_pixels():
    found = boxes((0, 0, 30, 30, TABLE), (10, 10, 16, 16, CUP))
    ids, _ = paint_masks(filled(found), found, 1)
    assert ids[12, 12] == 1
    assert ids[5, 5] == 0


def test_specks_are_no_masks_and_leave_no_gap_in_the_numbers():
    found = boxes((0, 0, 2, 2, CUP), (10, 10, 30, 30, CHAIR))
    ids, rows = paint_masks(filled(found), found, 5)
    assert rows == [1]
    assert ids[1, 1] == -1
    assert ids[20, 20] == 0


def test_of_two_names_for_one_place_the_surer_counts():
    found = boxes((0, 0, 20, 20, TABLE), (0, 0, 20, 19, CHAIR), (20, 20, 30, 30, CHAIR))
    assert drop_contradicted(found).classes.tolist() == [TABLE, CHAIR]


def test_a_box_around_a_surer_and_smaller_one_of_its_class_holds_its_surroundings():
    around = boxes((10, 10, 14, 14, CHAIR), (0, 0, 30, 30, CHAIR))
    assert len(drop_contradicted(around).scores) == 1
    surer = boxes((0, 0, 30, 30, CHAIR), (10, 10, 14, 14, CHAIR))
    assert len(drop_contradicted(surer).scores) == 2
    other = boxes((10, 10, 14, 14, CUP), (0, 0, 30, 30, TABLE))
    assert len(drop_contradicted(other).scores) == 2


def test_its_skill_is_measured_on_the_generator_s_pictures_like_any_other(teacher):
    """Trained on photographs, it finds the plainest of them."""
    encoder, words = build_text_encoder(), load_vocabulary("indoor")
    texts = encoder.encode([f"a {word}" for word in words])
    found = []
    for seed in range(3):
        drawn = RenderedImageGenerator()("a good photo of a toilet", "toilet", seed)
        labels = teacher(drawn.image).classify(texts)
        found.append((labels == words.index("toilet")) & (drawn.attention > 0.5))
        assert set(labels.unique().tolist()) <= {-1, *range(len(words))}
    assert sum(bool(one.sum() > 500) for one in found) >= 2


class Poet:
    name = "poet"
    provenance = {  # noqa: RUF012
        "weights": "poems.pt",
        "revision": "ode",
        "licence": "MIT",
        "training": "verse",
    }

    def __call__(self, image, mask_ids, labels, nouns=None):
        return tuple(f"o {noun}" for noun in nouns or labels)


def test_another_captioner_says_the_texts_and_counts_as_another_revision(seen, photograph, teacher):
    other = PhotoDetector(build_text_encoder(), Poet())
    found = other(photograph)
    assert "o dining table" in found.captions
    assert torch.equal(found.mask_ids, seen.mask_ids)
    torch.testing.assert_close(found.embeddings, build_text_encoder().encode(found.captions))
    assert teacher.provenance["revision"] == "nanodet-g/1"
    assert other.provenance["revision"] == "nanodet-g/1 poet ode"
    assert other.provenance["captions"] == "poems.pt, revision ode, MIT, trained on verse"
    assert "captions" not in teacher.provenance
