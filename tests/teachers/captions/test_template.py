"""Captions from the colour of a mask, and captions of a describer joined with labels."""

from __future__ import annotations

import torch

from pcdistill.teachers.captions import (
    TemplateCaptioner,
    WordedCaptioner,
    label_in_a_scene,
    place_label,
    template_caption,
)


def image_of_two():
    image = torch.zeros(3, 4, 6, dtype=torch.uint8)
    image[0, :, :3] = 180  # red
    image[1:, :, :3] = 45
    mask_ids = torch.full((4, 6), -1, dtype=torch.int32)
    mask_ids[:, :3] = 0
    mask_ids[:2, 3:] = 1
    image[:, 0, 3:] = 255  # half white, half black
    return image, mask_ids


def test_the_color_of_a_mask_is_said_where_there_is_one():
    image, mask_ids = image_of_two()
    captioner = TemplateCaptioner(label_first=False)
    assert captioner(image, mask_ids, ("table", "oven")) == ("a red table", "an oven")


def test_the_label_comes_first_for_an_encoder_that_averages_words():
    image, mask_ids = image_of_two()
    captioner = TemplateCaptioner(label_first=True)
    texts = captioner(image, mask_ids, ("table", "oven"), ("dining table", "oven"))
    assert texts == ("table: a red dining table", "oven: an oven")
    assert captioner(image, mask_ids, ()) == ()


def test_template_captions():
    assert template_caption("table") == "a table"
    assert template_caption("table", "orange", "", "wooden") == "an orange wooden table"


class Parrot:
    name = "parrot"
    provenance = {"revision": "feather", "licence": "none"}  # noqa: RUF012

    def describe(self, image, mask_ids, count):
        assert count == 2
        return ("a red bench", "")


def test_what_a_describer_says_is_joined_with_the_labels():
    image, mask_ids = image_of_two()
    paper = WordedCaptioner(Parrot(), place_label, "paper")
    release = WordedCaptioner(Parrot(), label_in_a_scene, "release")
    assert paper(image, mask_ids, ("table", "oven")) == ("a red table", "an oven")
    assert paper(image, mask_ids, ("table", "oven"), ("desk", "oven")) == ("a red desk", "an oven")
    assert release(image, mask_ids, ("table", "oven")) == (
        "a red table in a scene",
        "a oven in a scene",
    )
    assert paper(image, mask_ids, ()) == ()
    assert paper.provenance["revision"] == "feather paper"
    assert release.provenance["revision"] == "feather release"
    assert paper.name == "parrot"
