"""Examples of generated images: which words, which views, and what is said of those left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pcdistill.reporting.reference_sheet import TILE_WIDTH, reference_sheet
from tests.fixtures.reference_images import HEIGHT, WIDTH, write_images
from tests.stages.toy import TEACHERS, VOCABULARY, nothing, toy_run

BOTH_HALF = torch.full((2, 3), 0.5)


@pytest.fixture
def run(tmp_path):
    toy = toy_run(tmp_path)
    return SimpleNamespace(
        workspace=toy.workspace,
        words=toy.words,
        teachers=TEACHERS,
        point_features=SimpleNamespace(load_teacher=toy.teacher),
    )


def test_an_image_is_shown_with_its_heat_its_masks_and_what_each_teacher_finds(run):
    write_images(run, "bed")
    (shown,) = reference_sheet(run, BOTH_HALF, 1, nothing).classes
    assert shown.word == "bed"
    assert len(shown.samples) == 2
    for tiles in shown.samples:
        assert [tile.caption for tile in tiles] == [
            "image",
            "heat map",
            "coarse mask, above 0.7",
            "pseudo mask of crosses",
            "demo-masks, IoU 67\u00a0%",  # a third of the image of its half
            "demo-dense, IoU 67\u00a0%",
        ]
        image, heat, coarse, pseudo, *teachers = (tile.image for tile in tiles)
        red = (image == torch.tensor([200, 0, 0])).all(dim=2)
        assert int(red.sum()) == HEIGHT * WIDTH // 2
        assert len(heat[:, 0].unique(dim=0)) == 2
        assert (heat[0, 0] != heat[-1, 0]).any()
        for drawn, where in (
            (coarse, torch.arange(HEIGHT)[:, None] >= 2),
            (pseudo, torch.arange(WIDTH)[None] < WIDTH // 3),
            *((drawn, torch.arange(WIDTH)[None] < WIDTH // 2) for drawn in teachers),
        ):
            bright = (drawn == torch.tensor([200, 0, 0])).all(dim=2)
            assert torch.equal(bright, red & where)


def test_a_cleaned_coarse_mask_is_shown_cleaned(run):
    write_images(run, "bed", scale=4, clean_border=True)
    (shown,) = reference_sheet(run, BOTH_HALF, 1, nothing).classes
    coarse = shown.samples[0][2].image
    bright = (coarse == torch.tensor([200, 0, 0])).all(dim=2).nonzero()
    assert bright.amin(dim=0).tolist() == [8, 7]  # 70 / 512 of 48 columns


def test_the_words_on_which_teachers_differ_most_go_first(run):
    for word in VOCABULARY:
        write_images(run, word)
    measured = torch.tensor([[0.5, 0.1, 0.9], [0.4, 0.8, torch.nan]])  # 0.1, 0.7, 0.9
    sheet = reference_sheet(run, measured, 2, nothing)
    assert [shown.word for shown in sheet.classes] == [VOCABULARY[2], VOCABULARY[1]]
    everything = reference_sheet(run, measured, 9, nothing)
    assert [shown.word for shown in everything.classes] == list(VOCABULARY[::-1])
    equal = reference_sheet(run, BOTH_HALF, 2, nothing)
    assert [shown.word for shown in equal.classes] == list(VOCABULARY[:2])


def test_nothing_is_shown_where_nothing_is_wanted_or_there(run):
    assert reference_sheet(run, BOTH_HALF, 3, nothing) is None
    write_images(run, "door")
    assert reference_sheet(run, BOTH_HALF, 0, nothing) is None
    assert [c.word for c in reference_sheet(run, BOTH_HALF, 3, nothing).classes] == ["door"]
    run.teachers = ()
    assert reference_sheet(run, BOTH_HALF, 3, nothing) is None


def test_images_that_are_left_out_are_counted_with_their_reasons(run):
    write_images(run, "bed", left_out={"empty mask": [0, 3], "mask of everything": [4]})
    write_images(run, "door", left_out={"mask of everything": [1]})
    write_images(run, "lamp")
    sheet = reference_sheet(run, BOTH_HALF, 3, nothing)
    assert sheet.summary == (
        "Of 13 images 4 were left out: 2 empty mask, 2 mask of everything; by word: bed 3, door 1."
    )
    notes = {shown.word: shown.note for shown in sheet.classes}
    assert notes == {
        "bed": "6 images, left out: number 1, 4 (empty mask); 5 (mask of everything).",
        "door": "4 images, left out: number 2 (mask of everything).",
        "lamp": "3 images, none left out.",
    }


def test_a_word_of_which_every_image_is_left_out_is_counted_and_not_shown(run):
    write_images(run, "bed", count=0, left_out={"empty mask": [0, 1]})
    write_images(run, "door")
    sheet = reference_sheet(run, torch.tensor([[0.0, 0.9, 0.2], [0.0, 0.1, 0.1]]), 2, nothing)
    assert [shown.word for shown in sheet.classes] == ["door"]
    assert sheet.summary == "Of 5 images 2 were left out: 2 empty mask; by word: bed 2."


def test_a_word_of_which_nothing_is_left_out_says_so(run):
    write_images(run, "lamp")
    assert reference_sheet(run, BOTH_HALF, 1, nothing).summary == "Of 3 images none was left out."


def test_large_images_are_shown_small(run):
    write_images(run, "bed", scale=40)
    (shown,) = reference_sheet(run, BOTH_HALF, 1, nothing).classes
    sizes = {tuple(tile.image.shape) for tiles in shown.samples for tile in tiles}
    assert sizes == {(HEIGHT * TILE_WIDTH // WIDTH, TILE_WIDTH, 3)}
