"""Dense teachers of the run's own text encoder: how an image is looked at, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.teachers import StaticTextEncoder, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.clip_text import ClipTextEncoder
from pcdistill.teachers.patches.network import Colors, PatchNetwork
from pcdistill.teachers.patches.teacher import PatchTeacher, prepare_images

COLOR_STEP = 0.06
"""Of resized colors, at the border of two."""


class MeanColor(PatchNetwork):
    """Says of a patch its mean color."""

    def __init__(self, patch: int) -> None:
        super().__init__(patch, Colors((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
        self.given: list[tuple[int, ...]] = []

    def embed(self, images: Tensor) -> Tensor:
        self.given.append(tuple(images.shape))
        return torch.nn.functional.avg_pool2d(images, self.patch)


def teacher_of(network: PatchNetwork) -> PatchTeacher:
    encoder = SimpleNamespace(
        **{"name": "colors", "text_space": "colors", "dimensions": 3, "dense_teacher": "maskclip"},
        provenance={"revision": "abc", "licence": "none", "training": "none"},
        load_image_side=lambda: network,
    )
    return PatchTeacher("maskclip", "clip-vit-b-32", TeacherSetup(encoder))


def two_colors(height: int, width: int, column: int) -> Tensor:
    """(3, H, W) uint8: red to the left of a column, blue from there."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0, :, :column] = 255
    image[2, :, column:] = 255
    return image


@pytest.mark.parametrize(
    ("size", "patch", "given", "cells"),
    [
        ((480, 640), 32, (512, 704), (16, 22)),
        ((480, 640), 14, (518, 700), (37, 50)),
        ((968, 1296), 16, (512, 688), (32, 43)),
        ((300, 100), 16, (1536, 512), (96, 32)),
        ((3, 5), 16, (48, 80), (3, 5)),
    ],
)
def test_an_image_keeps_its_aspect_ratio_and_is_padded_to_whole_patches(size, patch, given, cells):
    prepared, covered = prepare_images(torch.zeros(1, 3, *size, dtype=torch.uint8), patch)
    assert tuple(prepared.shape[2:]) == given
    network = MeanColor(patch)
    found = teacher_of(network)(torch.zeros(3, *size, dtype=torch.uint8))
    assert tuple(found.features.shape[1:]) == cells
    assert network.given == [(1, 3, *given)]
    scales = (given[0] / covered[0], given[1] / covered[1])
    assert scales[0] == pytest.approx(scales[1], rel=0.01)
    assert covered[0] >= size[0] - 1e-9
    assert covered[1] >= size[1] - 1e-9


@pytest.mark.parametrize("size", [(480, 640), (240, 333), (97, 64)])
def test_features_lie_where_the_image_has_them(size):
    height, width = size
    column = width // 3
    found = teacher_of(MeanColor(16))(two_colors(height, width, column))
    cell = (found.covered or size)[1] / found.features.shape[2]
    rows = torch.full((3,), height - 1)
    columns = torch.tensor([0, int(column - 2 * cell), width - 1])
    seen = found.sample(torch.stack([columns, rows], dim=1))
    expected = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(seen, expected, atol=COLOR_STEP, rtol=0)
    at_border = found.sample(torch.stack([torch.arange(width), rows[:1].expand(width)], dim=1))
    first_blue = int((at_border[:, 2] > at_border[:, 0]).nonzero()[0])
    assert abs(first_blue - column) <= cell / 2 + 1


def test_padding_repeats_the_border():
    image = torch.full((1, 3, 480, 641), 200, dtype=torch.uint8)
    prepared, _ = prepare_images(image, 32)
    assert prepared.shape[3] > 641 * 512 // 480
    torch.testing.assert_close(prepared, torch.full_like(prepared, 200 / 255), atol=1e-3, rtol=0)


def test_an_image_that_fits_spans_its_map():
    assert teacher_of(MeanColor(16))(torch.zeros(3, 512, 512, dtype=torch.uint8)).covered is None


def test_it_lives_in_the_space_of_the_encoder_and_names_its_weights(tmp_path):
    (tmp_path / "ViT-B-16.pt").write_bytes(b"weights")
    store = WeightStore(tmp_path)
    encoder = ClipTextEncoder("clip-vit-b-16", 512, store)
    teacher = build_teacher("maskclip", TeacherSetup(encoder, store))
    assert (teacher.text_space, teacher.dimensions) == ("clip-vit-b-16", 512)
    assert teacher.provenance["weights"] == "ViT-B-16.pt"
    assert teacher.provenance["revision"] == f"{store.revision('clip-vit-b-16')}/maskclip/1"
    assert encoder.provenance["revision"] == store.revision("clip-vit-b-16")


def test_an_encoder_without_an_image_side_is_refused(tmp_path):
    message = r"'maskclip' reads the image side .* 'clip-vit-b-32', but .* 'static-minilm-64'"
    with pytest.raises(ConfigError, match=message):
        build_teacher("maskclip", TeacherSetup(StaticTextEncoder(), WeightStore(tmp_path)))


def test_missing_weights_are_named_before_the_work(tmp_path):
    encoder = ClipTextEncoder("clip-vit-b-32", 512, WeightStore(tmp_path))
    with pytest.raises(ConfigError, match="pcdistill weights fetch clip-vit-b-32"):
        build_teacher("maskclip", TeacherSetup(encoder, WeightStore(tmp_path)))
