"""Windows, scales, padding and mirror images equal the official evaluators'."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.teachers.lseg.network import prepare_images
from pcdistill.teachers.lseg.sliding_windows import (
    WindowSettings,
    add_mirrored,
    evaluate_levels,
    pad_to_square,
    resize,
    resized_size,
    sum_levels,
)
from pcdistill.teachers.lseg.views import DFF_SETTINGS
from tests.conftest import golden_cases, load_npz

CASES = golden_cases("teachers/lseg_evaluator_inputs.npz")
OFFICIAL = WindowSettings(520, 480, (0.5, 0.75, 1.0, 1.25, 1.5, 1.75))
ATOL = 1e-4


class Recorded:
    """The recorded images and answers, and the network that stood for LSeg."""

    def __init__(self, inputs_file):
        arrays = load_npz(inputs_file)
        self._weight, self._bias = (
            torch.from_numpy(arrays[key]) for key in ("net_weight", "net_bias")
        )
        self._images = {key[6]: value for key, value in arrays.items() if key.startswith("image_")}
        expected = load_npz(inputs_file.with_name("lseg_evaluator_outputs.npz"))
        self.expected = {key: torch.from_numpy(value) for key, value in expected.items()}

    def image(self, name: str) -> Tensor:
        return prepare_images(torch.from_numpy(self._images[name]).permute(2, 0, 1)[None])

    def network(self, images: Tensor) -> Tensor:
        """Answers that depend on colours and on the place in the window."""
        found = torch.tanh(functional.conv2d(images, self._weight, self._bias, padding=1))
        rows = torch.linspace(-1, 1, found.shape[2])[:, None]
        columns = torch.linspace(-1, 1, found.shape[3])
        return found * (1 + 0.5 * columns + 0.25 * rows)

    def halved(self, images: Tensor) -> Tensor:
        return functional.avg_pool2d(self.network(images), 2)

    def square(self, name: str, side: int) -> Tensor:
        image = self.image(name)
        inner = resized_size((image.shape[2], image.shape[3]), side)
        return pad_to_square(resize(image, inner), side)


@pytest.fixture(params=CASES)
def reference(request):
    return Recorded(request.param)


@pytest.mark.parametrize("name", "abcd")
def test_the_padded_square_is_that_of_sas(reference, name):
    found = add_mirrored(reference.halved, reference.square(name, 640))[0]
    height, width = reference.image(name).shape[2:]
    torch.testing.assert_close(
        found[:, :height, :width], reference.expected[f"sas_feat_{name}"], atol=ATOL, rtol=0
    )


@pytest.mark.parametrize("name", "ac")
def test_the_input_of_the_network_is_that_of_sas(reference, name):
    found = reference.square(name, 640)[0, :, ::16, ::16]
    expected = reference.expected[f"sas_netinput_{name}_stride16"]
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=0)


def test_half_precision_features_are_those_that_sas_stores(reference):
    found = add_mirrored(reference.halved, reference.square("a", 640))[0, :, :240, :320].half()
    torch.testing.assert_close(
        found, reference.expected["sas_extract_feat_a_fp16"], atol=4e-3, rtol=0
    )


def test_openscene_looks_at_twice_the_size(reference):
    found = add_mirrored(reference.halved, reference.square("e", 1280))[0, :, :512:4, :640:4]
    expected = reference.expected["openscene_matterport_e_stride4"]
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize(("name", "step"), [("a", 1), ("b", 3)])
def test_windows_at_six_scales_are_the_official_ones(reference, name, step):
    image = reference.image(name)
    found = sum_levels(evaluate_levels(reference.network, image, OFFICIAL), image.shape[2:])
    expected = reference.expected[f"official_multiscale_{name}"]
    torch.testing.assert_close(found[0, :, ::step, ::step], expected, atol=ATOL, rtol=0)


def test_windows_without_a_mirror_image_are_the_official_ones(reference):
    image = reference.image("c")
    settings = WindowSettings(700, 480, (1.0,), flip=False)
    found = sum_levels(evaluate_levels(reference.network, image, settings), image.shape[2:])
    expected = reference.expected["official_single_noflip_c"]
    torch.testing.assert_close(found[0, :, ::2, ::2], expected, atol=ATOL, rtol=0)


@pytest.mark.parametrize(("name", "step"), [("a", 1), ("b", 3)])
def test_windows_of_distilled_feature_fields_are_half_our_sums(reference, name, step):
    image = reference.image(name)

    def unit(images: Tensor) -> Tensor:
        return functional.normalize(reference.network(images), dim=1)

    total = sum_levels(evaluate_levels(unit, image, DFF_SETTINGS), image.shape[2:])
    expected = reference.expected[f"dff_multiscale_{name}"]
    torch.testing.assert_close(total[0, :, ::step, ::step] / 2, expected, atol=ATOL, rtol=0)
    small = functional.interpolate(total, (240, 320), mode="bilinear", align_corners=False)
    final = functional.normalize(small, dim=1)[0, :, ::2, ::2].half()
    torch.testing.assert_close(
        final, reference.expected[f"dff_final_{name}_fp16"], atol=4e-3, rtol=0
    )


def test_no_scale_is_refused():
    with pytest.raises(ValueError, match="no scale"):
        sum_levels([], (2, 2))
