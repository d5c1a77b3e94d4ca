"""Embedded images: vague maps of the right thing, and pseudo masks that are worth scoring with."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import pcdistill.homes
from pcdistill.capability import GeneratedImage, binarize_attention, mask_iou, prompt_points
from pcdistill.capability.generators.rendered import RenderedImageGenerator, blur_to_attention
from pcdistill.errors import ConfigError
from pcdistill.homes import CLASSES, SPLITS, object_in_room, render_object_image
from pcdistill.segmenters import SuperpixelSegmenter


def box_map(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A box beside another one, and its coarse map."""
    instances = torch.full((96, 128), -1, dtype=torch.int32)
    instances[30:70, 40:80] = 0
    instances[30:70, 80:120] = 1
    mask = instances == 0
    return mask, blur_to_attention(mask, instances, np.random.default_rng(seed))


def test_the_map_spans_0_to_1_and_is_brightest_around_the_object():
    for seed in range(10):
        mask, soft = box_map(seed)
        assert soft.dtype == torch.float32
        assert soft.min() == 0
        assert soft.max() == 1
        assert soft[mask].mean() > 3 * soft[~mask].mean()


def test_the_map_is_too_vague_to_read_the_outline_from():
    ious, shifts = [], []
    for seed in range(20):
        mask, soft = box_map(seed)
        steps = torch.cat([soft.diff(dim=0).abs().flatten(), soft.diff(dim=1).abs().flatten()])
        assert steps.max() < 0.12  # an exact outline would step by 1
        ious.append(mask_iou(binarize_attention(soft, 0.5), mask))
        center = (soft > 0.7).nonzero().double().mean(dim=0)
        shifts.append(float((center - mask.nonzero().double().mean(dim=0)).norm()))
    assert torch.stack(ious).mean() < 0.9
    assert np.mean(shifts) > 1  # pixels


def test_the_map_spills_onto_what_touches_the_object():
    spilt = alone = 0.0
    for seed in range(20):
        _, soft = box_map(seed)
        spilt += float(soft[30:70, 100:115].mean())
        alone += float(soft[30:70, 5:20].mean())  # as far away on the other side
    assert spilt > alone + 1


def photo(generator: RenderedImageGenerator, category: str, seed: int) -> GeneratedImage:
    return generator(f"a good photo of a {category}", category, seed)


def test_a_prompt_and_a_seed_make_one_image():
    generator = RenderedImageGenerator((64, 96))
    first, again = photo(generator, "chair", 3), photo(generator, "chair", 3)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.attention, again.attention)
    assert first.image.shape == (3, 64, 96)
    assert first.image.dtype == torch.uint8
    assert first.attention.shape == (64, 96)
    assert not torch.equal(first.image, photo(generator, "chair", 4).image)
    assert not torch.equal(first.image, photo(generator, "table", 3).image)


@pytest.fixture
def rendered(monkeypatch):
    """List of (seed, exact mask, category) of every picture that is rendered."""
    pictures = []

    def recorded(category, seed, **options):
        picture = render_object_image(category, seed, **options)
        pictures.append((seed, picture.mask, category))
        return picture

    monkeypatch.setattr(pcdistill.homes, "render_object_image", recorded)
    return pictures


def test_no_image_is_of_what_teachers_are_trained_on(rendered):
    """They learn from pictures and homes of another collection."""
    photo(RenderedImageGenerator((48, 64)), "sofa", 7)
    assert [seed for seed, *_ in rendered] == [7]
    theirs = render_object_image("sofa", 7, image_size=(48, 64), collection="teacher")
    assert not torch.equal(rendered[0][1], theirs.mask)
    assert SPLITS["pictures"].collection != SPLITS["teacher"].collection


def test_in_a_room_things_are_smaller_and_stand_among_others():
    generator = RenderedImageGenerator((96, 128))
    kinds, shares = {}, {}
    for prompt in ("a good photo of a sink", "a good photo of a sink in a room"):
        draw = object_in_room if "in a room" in prompt else render_object_image
        made = generator(prompt, "sink", 2)
        exact = draw("sink", 2, image_size=(96, 128))
        assert torch.equal(made.image, exact.rendering.image.permute(2, 0, 1))
        shots = [draw("sink", seed, image_size=(96, 128)) for seed in range(6)]
        shares[prompt] = np.mean([float(shot.mask.float().mean()) for shot in shots])
        kinds[prompt] = np.mean([len(shot.rendering.classes.unique()) for shot in shots])
    alone, among = shares
    assert shares[among] < shares[alone]
    assert kinds[among] > kinds[alone]


def test_spaces_in_a_category_do_not_matter():
    generator = RenderedImageGenerator((48, 64))
    there, back = (photo(generator, name, 1) for name in ("other furniture", "otherfurniture"))
    assert torch.equal(there.image, back.image)


@pytest.mark.parametrize(
    ("prompt", "words", "drawn"),
    [
        ("a good photo of a chair", "chair", "chair"),
        ("a good photo of a chair by a wall", "chair", "chair"),
        ("Chair, oak, 4k", "chair", "chair"),
        ("a shower curtain", "shower curtain", "shower curtain"),
        ("a curtain after a shower", "curtain", "curtain"),
        ("a shower  curtain", "Shower Curtain", "shower curtain"),
        ("a red chair on the floor", "red chair", "chair"),
        ("the floor below a chair", "chair", "chair"),
        ("a wall above the floor", "wall", "wall"),
        ("a sofa, a very good sofa", "sofa", "sofa"),
        ("some other furniture", "other furniture", "other furniture"),
    ],
)
def test_what_the_prompt_names_is_drawn(rendered, prompt, words, drawn):
    RenderedImageGenerator((48, 64))(prompt, words, 3)
    assert [category for _, _, category in rendered] == [drawn]


def test_the_other_words_of_a_prompt_change_nothing():
    generator = RenderedImageGenerator((48, 64))
    one = generator("a good photo of a chair", "chair", 3)
    other = generator("Chair, oak, 4k", "chair", 3)
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.attention, other.attention)


@pytest.mark.parametrize(
    ("prompt", "words", "message"),
    [
        ("a good photo of a sofaa", "sofaa", "names nothing .* have; did you mean 'sofa'"),
        ("a photo of a qqq", "qqq", "names nothing that the embedded homes have; expected one of"),
        ("a photo of a sofa", "bed", "does not have the words 'bed', whose attention is wanted"),
        ("a photo of a bedroom", "bed", "does not have the words 'bed'"),
        ("a photo", "", "does not have the words ''"),
        ("a shower curtain", "curtain", "shows a shower curtain, which is not 'curtain'"),
        ("a bed beside a sofa", "bed", "names bed and sofa, expected one thing; name it alone"),
        ("a sofa on the floor", "floor", "shows a sofa, which is not 'floor'"),
        ("a good photo of a bed", "photo", "shows a bed, which is not 'photo'"),
    ],
)
def test_a_prompt_it_cannot_draw_is_a_mistake_in_the_configuration(prompt, words, message):
    start = f"the embedded image generator cannot draw '{prompt}': it "
    with pytest.raises(ConfigError, match=f"^{start}.*") as refused:
        RenderedImageGenerator()(prompt, words, 0)
    assert re.search(message, str(refused.value))


def test_what_it_cannot_draw_is_known_before_it_is_asked():
    words = ("sofa", "car", "shower curtain", "showercurtain", "traffic cone")
    generator = RenderedImageGenerator()
    for prompt in ("a good photo of a {}", "{}", "a {} in a {room} on the floor"):
        assert generator.unsupported_categories(prompt, words) == ("car", "traffic cone")
        assert generator.unsupported_categories(prompt.removesuffix(" on the floor"), CLASSES) == ()
    others = generator.unsupported_categories("a bed beside a {}", CLASSES)
    assert set(CLASSES) - set(others) == {"bed"}


def test_other_bad_input_is_refused():
    with pytest.raises(ValueError, match="seed is -1, expected 0 or more"):
        photo(RenderedImageGenerator(), "chair", -1)
    with pytest.raises(ValueError, match=r"image_size is \(16, 64\), expected at least 32 x 32"):
        RenderedImageGenerator((16, 64))


def test_pseudo_masks_from_points_agree_with_the_exact_masks(rendered):
    generator, segmenter = RenderedImageGenerator(), SuperpixelSegmenter()
    ious, on_object = [], []
    for category in CLASSES:
        made = photo(generator, category, 200)
        exact = rendered[-1][1]
        points = prompt_points(binarize_attention(made.attention), mode="inside")
        on_object.append(exact[points[:, 1], points[:, 0]].double().mean())
        ious.append(float(mask_iou(segmenter(made.image, points), exact)))
    assert np.mean(on_object) > 0.9
    assert np.mean(ious) > 0.7  # measured 0.85 over ten pictures of each class
