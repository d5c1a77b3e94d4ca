"""Pictures of things where they stand."""

from __future__ import annotations

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.homes import CLASS_INDEX, CLASSES, object_in_room

SIZE = (96, 128)


@pytest.mark.parametrize("category", CLASSES)
def test_the_category_is_in_view(category):
    for seed in (0, 1):
        picture = object_in_room(category, seed, image_size=SIZE)
        assert torch.equal(picture.mask, picture.rendering.classes == CLASS_INDEX[category])
        assert 0.003 < float(picture.mask.float().mean()) < 0.99
        assert picture.instance.category == category


def test_a_picture_repeats_with_its_seed_and_differs_from_others():
    one, again, other = (object_in_room("chair", seed, image_size=SIZE) for seed in (3, 3, 4))
    assert torch.equal(one.rendering.image, again.rendering.image)
    assert not torch.equal(one.rendering.image, other.rendering.image)


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ConfigError, match="no category 'chai'; did you mean 'chair'"):
        object_in_room("chai", 0)
    with pytest.raises(ConfigError, match="seed is -1, expected 0 or more"):
        object_in_room("chair", -1)
