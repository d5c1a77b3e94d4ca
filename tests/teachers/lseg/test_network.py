"""LSeg's image network gives what the official one gave, layer by layer."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from pcdistill.teachers.lseg.network import LSegNetwork, prepare_images
from tests.conftest import golden_cases
from tests.teachers.lseg.reduced import recorded, reduced_network

REDUCED = golden_cases("teachers/lseg_reduced_meta.json")
MANIFEST = golden_cases("teachers/lseg_manifest_full.json")
LOGIT_SCALE = 1 / 0.07
"""A constant of the official code; no checkpoint holds it."""
STEPS = {
    **{f"reassemble{n}": f"pretrained.act_postprocess{n}" for n in (1, 2, 3, 4)},
    **{f"layer{n}_rn": f"scratch.layer{n}_rn" for n in (1, 2, 3, 4)},
    **{f"path{n}": f"scratch.refinenet{n}" for n in (1, 2, 3, 4)},
}
"""Recorded name -> module whose output it is."""


@pytest.mark.parametrize("meta_file", REDUCED)
def test_every_step_equals_the_official_one(meta_file):
    network, io = reduced_network(meta_file), recorded(meta_file, "io")
    found = {}
    for name, module in STEPS.items():
        network.get_submodule(module).register_forward_hook(
            lambda _module, _given, output, name=name: found.update({name: output})
        )
    features = network(io["x"])
    vit = network.pretrained.model
    torch.testing.assert_close(vit.embed(io["x"]), io["tokens_after_pos_embed"], atol=1e-5, rtol=0)
    for number, tokens in enumerate(vit(io["x"]), start=1):
        expected = io[f"vit_block_tap{number}"]
        torch.testing.assert_close(tokens, expected, atol=1e-3, rtol=0)
    for name in STEPS:
        torch.testing.assert_close(found[name], io[name], atol=1e-4 * 30, rtol=0, msg=name)
    raw = network.raw_features(io["x"])[:, :, ::2, ::2]
    torch.testing.assert_close(raw, io["head1_stride2"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features, io["features"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("meta_file", REDUCED)
def test_other_sizes_and_batches_have_their_own_positions(meta_file):
    io = recorded(meta_file, "io2")
    features = reduced_network(meta_file)(io["x2"])[:, :, ::6, ::6]
    torch.testing.assert_close(features, io["features2_stride6"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("meta_file", REDUCED)
def test_logits_follow_from_features_and_texts(meta_file):
    network, io = reduced_network(meta_file), recorded(meta_file, "io")
    features = network(io["x"])
    text = functional.normalize(io["text_features_fp32"], dim=1)
    logits = LOGIT_SCALE * torch.einsum("bdhw,kd->bkhw", features, text)
    torch.testing.assert_close(logits, io["logits_fp32_half_res"], atol=1e-3, rtol=0)
    whole = functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=True)
    torch.testing.assert_close(whole, io["logits"], atol=1e-2, rtol=0)  # recorded in halves


@pytest.mark.parametrize("meta_file", REDUCED)
def test_the_input_is_scaled_to_one_and_minus_one(meta_file):
    io = recorded(meta_file, "io")
    prepared = prepare_images(io["image_uint8"].permute(2, 0, 1)[None])
    torch.testing.assert_close(prepared, io["x"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("manifest_file", MANIFEST)
def test_keys_and_shapes_of_the_full_network_are_those_of_the_checkpoint(manifest_file):
    manifest = json.loads(manifest_file.read_text())
    with torch.device("meta"):
        keys = {key: list(value.shape) for key, value in LSegNetwork().state_dict().items()}
    official = {key: shape for key, (shape, _) in manifest["keys"].items()}
    text_tower = {key for key in official if key.startswith("clip_pretrained.")}
    left = {key for key in manifest["unused_in_forward"] if key not in text_tower}
    assert keys == {k: shape for k, shape in official.items() if k not in text_tower | left}
    assert len(official) == 730


def test_sides_that_are_no_multiple_of_32_are_refused():
    with torch.device("meta"):
        network = LSegNetwork()
        with pytest.raises(ValueError, match="640x470 pixels, expected multiples of 32"):
            network(torch.zeros(1, 3, 470, 640))
