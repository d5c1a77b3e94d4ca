"""Patches of SigLIP2 and TIPSv2 against the way of the values written out in double precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pcdistill.teachers.patches.hub_towers import NaflexPatches, SiglipPatches, TipsPatches
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.patches.tiny_hub import make_tiny

pytestmark = pytest.mark.thorough
EXACT = 1e-9
NAFLEX, FIXED, TIPS = "siglip2-base-patch16-naflex", "siglip2-base-patch16-512", "tipsv2-b14"
NETWORKS = {NAFLEX: NaflexPatches, FIXED: SiglipPatches, TIPS: TipsPatches}


@pytest.fixture(autouse=True)
def transformers():
    return need_transformers()


def vision_of(name: str):
    return make_tiny(name).vision_model.double()


def images(height: int = 48, width: int = 48, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


def look(vision, name: str, pictures: torch.Tensor):
    """The whole network on images, by what transformers itself prepares of them."""
    if name != NAFLEX:
        return vision(pixel_values=pictures)
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    cut = torch.stack([convert_image_to_patches(one, 16) for one in pictures])
    grid = (pictures.shape[2] // 16, pictures.shape[3] // 16)
    shapes = torch.tensor([grid] * len(pictures))
    return vision(pixel_values=cut, pixel_attention_mask=None, spatial_shapes=shapes)


@pytest.mark.parametrize("name", [NAFLEX, FIXED])
def test_patches_of_siglip2_are_values_of_its_pooling_written_out(name):
    vision = vision_of(name)
    tokens = look(vision, name, images()).last_hidden_state  # (B, N, C)
    head, width = vision.head, tokens.shape[-1]
    weight = head.attention.in_proj_weight[2 * width :]
    values = tokens @ weight.T + head.attention.in_proj_bias[2 * width :]
    out = values @ head.attention.out_proj.weight.T + head.attention.out_proj.bias
    expected = out + head.mlp(head.layernorm(out))
    found = NETWORKS[name](vision).double().embed(images())
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, atol=EXACT, rtol=EXACT)


def test_patches_of_tipsv2_pass_its_last_layer_alone():
    vision, seen = vision_of(TIPS), []
    last = vision.encoder.layer[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    look(vision, TIPS, images())
    hook.remove()
    (tokens,) = seen
    normed = last.norm1(tokens)
    out = last.attention.o_proj(last.attention.v_proj(normed))
    out = tokens + out * last.layer_scale1.lambda1
    out = out + last.mlp(last.norm2(out)) * last.layer_scale2.lambda1
    expected = vision.layernorm(out)[:, 2:].transpose(1, 2)
    found = TipsPatches(vision).double().embed(images()).flatten(2)
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("name", [NAFLEX, FIXED])
def test_where_all_patches_are_alike_each_says_what_the_image_does(name):
    vision = vision_of(name)
    vision.embeddings.position_embedding.weight.zero_()
    pictures = torch.full((1, 3, 48, 48), 0.4, dtype=torch.float64)
    whole = look(vision, name, pictures).pooler_output
    found = NETWORKS[name](vision).double().embed(pictures)
    torch.testing.assert_close(found, whole[:, :, None, None].expand(-1, -1, 3, 3))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_of_any_size_keeps_its_rows_and_columns(name):
    """A patch of another color is found where it is."""
    network = NETWORKS[name](vision_of(name)).double()
    plain = torch.full((1, 3, 32, 80), 0.4, dtype=torch.float64)
    spotted = plain.clone()
    spotted[:, :, 16:, 48:64] = 0.9
    one, other = (functional.normalize(network.embed(one)) for one in (plain, spotted))
    assert one.shape == (1, 768, 2, 5)
    change = (one - other).norm(dim=1)[0]
    assert int(change.argmax()) == 8


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_says_about_the_same(name):
    """As on a GPU, where the whole network is in halves."""
    network = NETWORKS[name](vision_of(name)).double().eval()
    whole = network(images(32, 80))
    half = network.half()(images(32, 80))
    assert functional.cosine_similarity(whole, half, dim=1).min() > 0.999


def test_colors_are_those_of_the_training():
    assert NaflexPatches(vision_of(NAFLEX)).get_buffer("_mean").flatten().tolist() == [0.5] * 3
    assert SiglipPatches(vision_of(FIXED)).get_buffer("_std").flatten().tolist() == [0.5] * 3
    tips = TipsPatches(vision_of(TIPS))
    assert (tips.get_buffer("_mean").sum(), tips.get_buffer("_std").sum()) == (0, 3)
