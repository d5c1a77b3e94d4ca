"""Patches of image towers against the way of the values written out, and against whole images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.teachers.clip_towers import build_image_tower
from pcdistill.teachers.patches.network import Colors, resize_positions
from pcdistill.teachers.patches.open_clip_towers import OPENAI_COLORS, patches_of_tower
from pcdistill.teachers.patches.timm_towers import patches_of_trunk
from tests.conftest import GOLDEN
from tests.fixtures.open_clip_package import need_open_clip
from tests.teachers.patches.tiny import VISION, make_tiny_clip, shake

FOLDER = GOLDEN / "teachers"
PLAIN = Colors((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
EXACT = 1e-10
"""Of numbers in double precision."""

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs {FOLDER}")


@pytest.fixture(autouse=True)
def open_clip():
    return need_open_clip()


def images(height: int = 48, width: int = 48, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


def written_out(tower, pictures: torch.Tensor) -> torch.Tensor:
    """MaskCLIP on the grid of the training: values of the last block, output, residual and MLP."""
    seen = []
    last = tower.transformer.resblocks[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tower(pictures)
    hook.remove()
    (tokens,) = seen  # (B, 1 + N, C)
    width = tokens.shape[-1]
    normed = functional.layer_norm(tokens, (width,), last.ln_1.weight, last.ln_1.bias)
    weight, bias = last.attn.in_proj_weight[2 * width :], last.attn.in_proj_bias[2 * width :]
    values = normed @ weight.T + bias
    out = tokens + values @ last.attn.out_proj.weight.T + last.attn.out_proj.bias
    hidden = functional.layer_norm(out, (width,), last.ln_2.weight, last.ln_2.bias)
    hidden = hidden @ last.mlp.c_fc.weight.T + last.mlp.c_fc.bias
    hidden = hidden * torch.sigmoid(1.702 * hidden)
    out = out + hidden @ last.mlp.c_proj.weight.T + last.mlp.c_proj.bias
    out = functional.layer_norm(out, (width,), tower.ln_post.weight, tower.ln_post.bias)
    unit = functional.normalize((out @ tower.proj)[:, 1:], dim=-1)
    return unit.transpose(1, 2).unflatten(2, tower.grid_size)


def test_patches_of_a_vit_are_its_values_written_out():
    tower = make_tiny_clip().visual.double()
    expected = written_out(tower, images())
    found = patches_of_tower("tiny", tower, PLAIN).double().embed(images())
    assert found.shape == (2, 512, 3, 3)
    torch.testing.assert_close(functional.normalize(found, dim=1), expected, atol=EXACT, rtol=0)


def test_attended_patches_would_be_seen():
    """The tiny model tells values and attended values apart by far more than the tolerance."""
    tower = make_tiny_clip().visual.double()
    tower.output_tokens = True
    _, tokens = tower(images())
    attended = (
        functional.normalize(tokens @ tower.proj, dim=-1).transpose(1, 2).unflatten(2, (3, 3))
    )
    assert (attended - written_out(tower, images())).abs().max() > 1e-3


def test_patches_of_a_resnet_are_values_and_output_of_its_pooling():
    sizes = {"layers": (1, 1, 1, 1), "width": 8, "head_width": 8, "image_size": 64}
    tower = make_tiny_clip(vision_cfg=sizes).visual.double()
    seen = []
    tower.layer4.register_forward_hook(lambda _, __, cells: seen.append(cells))
    tower(images(64, 64))
    (cells,) = seen
    pool = tower.attnpool
    values = torch.einsum("bchw,dc->bdhw", cells, pool.v_proj.weight)
    values = values + pool.v_proj.bias[:, None, None]
    expected = torch.einsum("bchw,dc->bdhw", values, pool.c_proj.weight)
    expected = expected + pool.c_proj.bias[:, None, None]
    network = patches_of_tower("tiny", tower, PLAIN).double()
    assert network.patch == 32
    torch.testing.assert_close(network.embed(images(64, 64)), expected, atol=EXACT, rtol=EXACT)
    assert network.embed(images(64, 160)).shape == (2, 512, 2, 5)


def as_whole_images(tower, network, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, D) of whole images, and (B, D, h, w) of their patches, all of unit length."""
    whole = functional.normalize(tower(pictures), dim=1)
    return whole, functional.normalize(network.embed(pictures), dim=1)


def test_where_all_tokens_are_alike_a_patch_says_what_the_image_does():
    """One color, no positions, a class token like a patch: attention changes nothing."""
    tower = make_tiny_clip().visual.double()
    pictures = torch.full((1, 3, 48, 48), 0.4, dtype=torch.float64)
    tower.positional_embedding.zero_()
    tower.class_embedding.copy_(tower.conv1(pictures)[0, :, 0, 0])
    whole, patches = as_whole_images(
        tower, patches_of_tower("tiny", tower, PLAIN).double(), pictures
    )
    torch.testing.assert_close(patches, whole[:, :, None, None].expand(-1, -1, 3, 3))


def test_a_resnet_of_one_cell_says_what_the_image_does():
    sizes = {"layers": (1, 1, 1, 1), "width": 8, "head_width": 8, "image_size": 32}
    tower = make_tiny_clip(vision_cfg=sizes).visual.double()
    tower.attnpool.positional_embedding.zero_()
    network = patches_of_tower("tiny", tower, PLAIN).double()
    whole, patches = as_whole_images(tower, network, images(32, 32))
    torch.testing.assert_close(patches[:, :, 0, 0], whole)


def test_attention_that_pools_patches_pools_each_alone():
    """CoCa: one patch and its class token alike, so that pooling them is pooling one."""
    sizes = {**VISION, "image_size": 16, "attentional_pool": True, "attn_pooler_queries": 3}
    tower = make_tiny_clip(vision_cfg={**sizes, "attn_pooler_heads": 2}).visual.double()
    pictures = images(16, 16)[:1]
    tower.positional_embedding.zero_()
    tower.class_embedding.copy_(tower.conv1(pictures)[0, :, 0, 0])
    whole, patches = as_whole_images(
        tower, patches_of_tower("tiny", tower, PLAIN).double(), pictures
    )
    torch.testing.assert_close(patches[:, :, 0, 0], whole)


@pytest.mark.parametrize("size", [(32, 64), (80, 16), (48, 48)])
def test_positions_are_resized_to_the_image(size):
    """Equal positions stay equal whatever the grid, so that a picture of one color is all alike."""
    tower = make_tiny_clip().visual.double()
    tower.positional_embedding[1:] = tower.positional_embedding[1].clone()
    network = patches_of_tower("tiny", tower, PLAIN).double()
    found = network.embed(torch.full((1, 3, *size), 0.4, dtype=torch.float64))
    assert found.shape[2:] == (size[0] // 16, size[1] // 16)
    torch.testing.assert_close(found, found[:, :, :1, :1].expand_as(found))


def test_rows_of_positions_stay_rows():
    rows = torch.arange(3.0)[:, None, None].expand(3, 4, 5).reshape(12, 5)
    resized = resize_positions(rows, (3, 4), (6, 2)).reshape(6, 2, 5)
    torch.testing.assert_close(resized, resized[:, :1, :1].expand_as(resized))
    assert (resized[1:, 0, 0] > resized[:-1, 0, 0]).all()
    assert resize_positions(rows, (3, 4), (3, 4)) is rows


def test_colors_are_normalized_and_features_of_unit_length():
    tower = make_tiny_clip().visual
    network = patches_of_tower("tiny", tower, OPENAI_COLORS)
    pictures = images().float()
    found = network(pictures)
    mean, std = (torch.tensor(part)[:, None, None] for part in OPENAI_COLORS)
    torch.testing.assert_close(found, functional.normalize(network.embed((pictures - mean) / std)))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 3, 3))


class TimmModel(nn.Module):
    """As open_clip has a trunk of timm."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head


def timm_tower(**changes):
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        trunk = VisionTransformer(**{**sizes, "num_classes": 0, **changes})
        shake(trunk)
        head = nn.Linear(32, 16)
    return TimmModel(trunk, head).eval().double()


def test_patches_of_siglip_are_values_of_its_pooling_written_out():
    tower = timm_tower(class_token=False, global_pool="map")
    pool = tower.trunk.attn_pool
    tokens = tower.trunk.forward_features(images(32, 32))  # (B, N, C)
    _, values = functional.linear(tokens, pool.kv.weight, pool.kv.bias).chunk(2, dim=-1)
    out = pool.proj(values)
    expected = tower.head(out + pool.mlp(pool.norm(out)))
    found = patches_of_trunk(tower, PLAIN).double().embed(images(32, 32))
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, atol=EXACT, rtol=EXACT)


def test_patches_of_a_vit_of_timm_pass_its_last_layer_alone():
    tower = timm_tower(global_pool="token")
    trunk, seen = tower.trunk, []
    hook = trunk.blocks[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(images(32, 32))
    hook.remove()
    (tokens,) = seen
    last = trunk.blocks[-1]
    values = last.attn.qkv(last.norm1(tokens)).chunk(3, dim=-1)[2]
    out = tokens + last.attn.proj(values)
    out = trunk.norm(out + last.mlp(last.norm2(out)))
    found = patches_of_trunk(tower, PLAIN).double().embed(images(32, 32))
    expected = tower.head(out)[:, 1:].transpose(1, 2)
    torch.testing.assert_close(found.flatten(2), expected, atol=EXACT, rtol=EXACT)


def test_a_vit_of_timm_takes_any_size():
    found = patches_of_trunk(timm_tower(global_pool="token"), PLAIN).double().embed(images(16, 40))
    assert found.shape == (2, 16, 2, 5)


def test_cells_of_a_convnext_are_pooled_alone():
    from timm.models.convnext import ConvNeXt

    with torch.random.fork_rng():
        torch.manual_seed(3)
        trunk = ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 8, 8, 16), num_classes=0).eval().double()
        shake(trunk)
        head = nn.Linear(16, 8).double()
    network = patches_of_trunk(TimmModel(trunk, head), PLAIN).double()
    assert network.patch == 32
    found = network.embed(images(64, 96))
    cells = trunk.forward_features(images(64, 96)).permute(0, 2, 3, 1)
    expected = head(trunk.head.norm(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    torch.testing.assert_close(found.permute(0, 2, 3, 1), expected, atol=EXACT, rtol=EXACT)


COCA = {**VISION, "attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 2}
RESNET = {"layers": (1, 1, 1, 1), "width": 8, "head_width": 8, "image_size": 64}


@pytest.mark.parametrize("vision", [VISION, COCA, RESNET], ids=["vit", "coca", "resnet"])
def test_half_precision_says_about_the_same(vision):
    """As on a GPU, where the whole network is in halves."""
    network = patches_of_tower("tiny", make_tiny_clip(vision_cfg=vision).visual, OPENAI_COLORS)
    pictures = images(64, 96).float()
    whole = network(pictures)
    half = network.half()(pictures)
    assert half.dtype == torch.float32
    assert functional.cosine_similarity(whole, half, dim=1).min() > 0.999


@pytest.mark.parametrize("pool", ["map", "token"])
def test_half_precision_of_timm_says_about_the_same(pool):
    network = patches_of_trunk(timm_tower(class_token=pool == "token", global_pool=pool), PLAIN)
    pictures = images(16, 40)
    whole = network.double()(pictures)
    assert functional.cosine_similarity(whole, network.half()(pictures), dim=1).min() > 0.999


class SwinTransformer(nn.Module):
    """Neither blocks nor cells that stand for themselves."""


def test_other_image_sides_are_refused_by_name():
    with pytest.raises(ConfigError, match="'open-clip:swin/x' is a SwinTransformer, whose patches"):
        patches_of_tower("open-clip:swin/x", TimmModel(SwinTransformer(), nn.Identity()), PLAIN)


@needs_golden
def test_the_image_side_is_built_as_the_official_code_has_it(tmp_path):
    """What is not of patches: the whole images that the official code embedded."""
    with np.load(FOLDER / "clip_reduced_weights.npz") as stored:
        weights = {key: torch.from_numpy(value) for key, value in stored.items()}
    with np.load(FOLDER / "clip_reduced_io.npz") as stored:
        pictures, expected = (torch.from_numpy(stored[k]) for k in ("images", "image_features"))
    tower = build_image_tower("clip-vit-b-32", weights, tmp_path)
    torch.testing.assert_close(tower(pictures), expected, atol=1e-5, rtol=0)
    network = patches_of_tower("clip-vit-b-32", tower, PLAIN)
    torch.testing.assert_close(network(pictures), written_out(tower, pictures), atol=1e-5, rtol=0)


def test_weights_without_an_image_side_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"not the weights of a CLIP .*conv1\.weight"):
        build_image_tower("clip-vit-b-32", {"text_projection": torch.ones(2, 2)}, tmp_path)
