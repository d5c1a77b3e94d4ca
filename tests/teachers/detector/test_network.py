"""The detector against what its authors' weights said of two photographs elsewhere."""

from __future__ import annotations

import json
from importlib.resources import as_file, files

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pcdistill.errors import ArtifactError
from pcdistill.teachers.detector.boxes import choose_boxes
from pcdistill.teachers.detector.network import (
    CLASSES,
    INPUT_SIZE,
    NanoDet,
    load_nanodet,
    prepare_images,
)
from pcdistill.teachers.detector.teacher import WEIGHTS

PHOTOGRAPHS = (62, 350)
SCORES, DISTANCES, PIXELS = 2e-3, 2e-2, 0.5
"""Tolerances of the fixtures."""


@pytest.fixture(scope="module")
def network():
    with as_file(files("pcdistill.teachers.detector") / "weights" / WEIGHTS) as path:
        return load_nanodet(path)


@pytest.fixture(scope="module")
def folder(data_root):
    return data_root / "photo_detector"


def resized(folder, number):
    case = np.load(folder / f"io_{number}.npz")
    return case, torch.from_numpy(case["resized_rgb_uint8"]).permute(2, 0, 1)[None]


def test_the_weights_are_the_given_ones_in_order_of_execution(network, folder):
    given = load_file(folder / "weights.safetensors")
    own = network.state_dict()
    assert len(own) == len(given) == 68
    for number, (name, values) in enumerate(own.items()):
        kind = "weight" if number % 2 == 0 else "bias"
        assert name.endswith(kind)
        assert torch.equal(values, given[f"conv{number // 2:02d}.{kind}"].float()), name


def test_the_classes_are_the_given_ones(folder):
    assert list(CLASSES) == json.loads((folder / "layers.json").read_text())["classes"]


@pytest.mark.parametrize("number", PHOTOGRAPHS)
def test_scores_and_distances_of_every_cell(network, folder, number):
    case, image = resized(folder, number)
    with torch.inference_mode():
        levels = network(prepare_images(image))
    assert [level.stride for level in levels] == [8, 16, 32]
    for level in levels:
        for mine, name, atol in (
            (level.scores[0], "scores", SCORES),
            (level.distances[0], "distances", DISTANCES),
        ):
            given = torch.from_numpy(case[f"{name}_stride{level.stride}"]).float()
            torch.testing.assert_close(mine, given, rtol=0, atol=atol)


@pytest.mark.parametrize("number", PHOTOGRAPHS)
def test_the_boxes_that_are_kept(network, folder, number):
    case, image = resized(folder, number)
    with torch.inference_mode():
        (found,) = choose_boxes(network(prepare_images(image)), 0.3, 0.5)
    assert found.classes.tolist() == case["kept_classes"].tolist()
    given = torch.from_numpy(case["kept_scores"])
    torch.testing.assert_close(found.scores, given, rtol=0, atol=SCORES)
    given = torch.from_numpy(case["kept_boxes_416"])
    torch.testing.assert_close(found.corners, given, rtol=0, atol=PIXELS)


@pytest.mark.parametrize("number", PHOTOGRAPHS)
def test_photographs_are_averaged_as_they_shrink(data_root, folder, number):
    """The fixtures were resized by a filter that widens with the scale."""
    from PIL import Image

    photograph = Image.open(data_root / "rgbd_frames" / "color" / f"{number}.jpg")
    image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None]
    assert image.shape[2:] != (INPUT_SIZE, INPUT_SIZE)
    _, given = resized(folder, number)
    step = 1 / 57  # one of 255 in units of the deviation
    torch.testing.assert_close(
        prepare_images(image), prepare_images(given), rtol=0, atol=1.1 * step
    )


def test_a_batch_says_the_same_as_one_at_a_time(network):
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    with torch.inference_mode():
        together = network(prepare_images(images))
        for number, image in enumerate(images):
            for one, level in zip(network(prepare_images(image[None])), together, strict=True):
                torch.testing.assert_close(one.scores[0], level.scores[number])


@pytest.mark.parametrize("content", [b"", b"no weights", None])
def test_other_files_are_no_weights(tmp_path, content):
    file = tmp_path / "detector.safetensors"
    if content is None:
        weights = NanoDet().state_dict()
        weights.pop("neck.lateral8.bias")
        save_file(weights, file)
    else:
        file.write_bytes(content)
    with pytest.raises(ArtifactError, match="not the weights of the detector"):
        load_nanodet(file)


def test_missing_weights_are_said_to_be_so(tmp_path):
    with pytest.raises(ArtifactError, match="install pcdistill again"):
        load_nanodet(tmp_path / "none.safetensors")
