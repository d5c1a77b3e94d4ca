"""Segment Anything: read as real checkpoints are, the masks of the package itself, odd input."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

from pcdistill.capability import SynthesisSetup, build_segmenter
from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError
from pcdistill.segmenters.sam_layout import OFFICIAL, read_layout
from pcdistill.teachers import WEIGHT_FILES, WeightStore
from tests.fixtures.segment_anything_models import need_segment_anything, save_tiny_sam, tiny_sam

POINTS = torch.tensor([[20, 10], [31, 17], [3, 28]])


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def installed() -> None:
    need_segment_anything()


def segmenter(folder, name: str = "sam-vit-b"):
    return build_segmenter(name, SynthesisSetup(WeightStore(folder)))


@pytest.mark.parametrize("size", [(40, 56), (64, 64), (90, 30)])
def test_masks_are_those_of_the_package(tmp_path, size):
    """All points positive, one mask; images of any size, red first."""
    sam = save_tiny_sam(tmp_path)
    reference = need_segment_anything().SamPredictor(sam)
    built = segmenter(tmp_path)
    for seed in range(3):
        torch.manual_seed(seed)
        picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
        points = torch.stack([torch.randint(0, size[1], (3,)), torch.randint(0, size[0], (3,))], 1)
        reference.set_image(picture.permute(1, 2, 0).numpy())
        expected, _, _ = reference.predict(points.numpy(), np.ones(3), multimask_output=False)
        found = built(picture, points)
        assert found.dtype == torch.bool
        assert found.shape == size
        assert 0 < int(found.sum()) < found.numel()
        assert found.tolist() == expected[0].tolist()


def test_other_points_and_channels_give_other_masks(tmp_path, image):
    """A mask that did not depend on them would be equal above for any points."""
    save_tiny_sam(tmp_path)
    built = segmenter(tmp_path)
    mask = built(image, POINTS)
    assert not torch.equal(mask, built(image, POINTS[:1]))
    assert not torch.equal(mask, built(image.flip(0), POINTS))
    assert torch.equal(mask, built(image, POINTS))


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-vit-l", "sam-vit-h"])
def test_sizes_are_read_off_the_tensors(name):
    """Of the networks as the package builds them, on the meta device; and of a tiny one."""
    package = need_segment_anything()
    with torch.device("meta"):
        network = package.sam_model_registry[name.removeprefix("sam-").replace("-", "_")]()
    layout = read_layout(network.state_dict())
    assert layout == OFFICIAL[name]
    assert layout.official_name == name
    tiny = read_layout(tiny_sam().state_dict())
    assert (tiny.window, tiny.global_blocks, tiny.heads, tiny.hidden) == (3, (1,), 2, 32)
    assert tiny.official_name is None


def test_what_made_the_masks_is_told(tmp_path):
    save_tiny_sam(tmp_path)
    built = segmenter(tmp_path)
    revision = WeightStore(tmp_path).revision("sam-vit-b")
    assert built.name == "sam-vit-b"
    assert built.provenance["revision"] == revision
    assert built.provenance["licence"] == "Apache-2.0"
    assert built.provenance["source"] == WEIGHT_FILES["sam-vit-b"].address
    save_tiny_sam(tmp_path, seed=1)
    assert segmenter(tmp_path).provenance["revision"] != revision


def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path, image):
    half = {key: value.half() for key, value in tiny_sam().state_dict().items()}
    torch.save(half, tmp_path / "sam_vit_b_01ec64.pth")
    found = segmenter(tmp_path)(image, POINTS)
    torch.save({k: v.float() for k, v in half.items()}, tmp_path / "sam_vit_b_01ec64.pth")
    assert torch.equal(found, segmenter(tmp_path)(image, POINTS))


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(ConfigError) as caught:
        segmenter(tmp_path, "sam-vit-h")
    file = tmp_path / "sam_vit_h_4b8939.pth"
    assert str(caught.value) == (
        f"{file}: the weights 'sam-vit-h' are not there; get them with `pcdistill weights fetch "
        "sam-vit-h`, or from https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth "
        f"into {tmp_path}, or name the file in run.weights.sam-vit-h"
    )


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    save_tiny_sam(tmp_path)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(MissingExtraError, match=r"segmenter 'sam-vit-b' needs segment-anything .*"):
        segmenter(tmp_path)


def test_a_file_of_another_network_is_one_sentence(tmp_path, image):
    file = tmp_path / "sam_vit_b_01ec64.pth"
    weights = tiny_sam().state_dict()
    key = "mask_decoder.iou_token.weight"
    others = {
        "found no tensor 'image_encoder.patch_embed.proj.weight'": {"a": torch.zeros(1)},
        f"{key} are missing, unknown or of another shape": {
            name: value for name, value in weights.items() if name != key
        },
        "mask_decoder.hf_token.weight and 1 more are missing, unknown": {
            **weights,
            "mask_decoder.hf_token.weight": torch.zeros(1),
            "more": torch.zeros(1),
        },
        f"{key} are missing": {**weights, key: torch.zeros(2, 32)},
    }
    for found, tensors in others.items():
        torch.save(tensors, file)
        with pytest.raises(ArtifactError) as caught:
            segmenter(tmp_path)(image, POINTS)
        assert str(caught.value).startswith(f"{file}: {found}")
        assert str(caught.value).endswith(
            "expected a checkpoint of Segment Anything as its authors publish it, such as "
            "sam_vit_b_01ec64.pth; fetch it with `pcdistill weights fetch sam-vit-b`"
        )


def test_a_published_network_under_the_name_of_another_is_refused(tmp_path, image, monkeypatch):
    save_tiny_sam(tmp_path)
    monkeypatch.setitem(OFFICIAL, "sam-vit-l", read_layout(tiny_sam().state_dict()))
    with pytest.raises(ArtifactError) as caught:
        segmenter(tmp_path)(image, POINTS)
    assert str(caught.value) == (
        f"{tmp_path / 'sam_vit_b_01ec64.pth'}: holds the network of 'sam-vit-l', but "
        "synthesize.segmenter is 'sam-vit-b'; set synthesize.segmenter: sam-vit-l, or name the "
        "file of 'sam-vit-b'"
    )


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (
            [[56, 10], [3, 4]],
            "points range from [3, 4] to [56, 10], expected (x, y) inside the image of 56 x 40 "
            "pixels",
        ),
        ([[0, 40]], "points range from [0, 40] to [0, 40], expected (x, y) inside the image of"),
        ([[-1, 0]], "points range from [-1, 0] to [-1, 0], expected (x, y) inside the image of"),
        ([], "points is empty, expected at least one point on the object"),
    ],
)
def test_points_outside_the_image_are_refused(tmp_path, image, points, sentence):
    save_tiny_sam(tmp_path)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        segmenter(tmp_path)(image, torch.tensor(points, dtype=torch.int64).reshape(-1, 2))


def test_an_image_of_other_values_is_refused(tmp_path, image):
    save_tiny_sam(tmp_path)
    with pytest.raises(ValueError, match=r"image is torch.float32, expected uint8"):
        segmenter(tmp_path)(image.float(), POINTS)
