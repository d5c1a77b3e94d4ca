"""Pictures of single objects."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.homes import CLASS_INDEX, CLASSES, NAMED_COLORS, render_object_image

SIZE = (120, 160)
SURROUNDINGS = {CLASS_INDEX[name] for name in ("wall", "floor", "ceiling")}
HOLDERS = {"sink": {"counter", "cabinet"}, "shower curtain": {"bathtub"}, "curtain": {"window"}}


@pytest.mark.parametrize("category", CLASSES)
def test_the_object_is_large_and_in_the_middle(category):
    dominant = 0
    for seed in range(4):
        shot = render_object_image(category, seed, image_size=SIZE)
        assert shot.mask.shape == torch.Size(SIZE)
        assert torch.equal(shot.mask, shot.rendering.classes == CLASS_INDEX[category])
        assert float(shot.mask.float().mean()) > 0.04
        assert shot.instance.category == category
        assert shot.instance.color in NAMED_COLORS
        ignored = SURROUNDINGS | {CLASS_INDEX[name] for name in HOLDERS.get(category, ())}
        ignored -= {CLASS_INDEX[category]}
        counts = torch.bincount(shot.rendering.classes.flatten().clamp(max=len(CLASSES)))
        counts[list(ignored & set(range(len(counts))))] = 0
        dominant += int(counts.argmax()) == CLASS_INDEX[category]
        rows, columns = shot.mask.nonzero().float().mean(dim=0)
        assert 0.15 * SIZE[0] < rows < 0.85 * SIZE[0]
        assert 0.15 * SIZE[1] < columns < 0.85 * SIZE[1]
    assert dominant >= 3


def test_a_picture_repeats_with_its_seed():
    first, same, other = (render_object_image("chair", seed, image_size=SIZE) for seed in (7, 7, 8))
    assert torch.equal(first.rendering.image, same.rendering.image)
    assert not torch.equal(first.rendering.image, other.rendering.image)


def test_an_unknown_category_is_named_with_a_suggestion():
    with pytest.raises(ConfigError, match="there is no category 'soffa'; did you mean 'sofa'"):
        render_object_image("soffa", 0)
    with pytest.raises(ConfigError, match="homes: seed is -2, expected 0 or more"):
        render_object_image("sofa", -2)
