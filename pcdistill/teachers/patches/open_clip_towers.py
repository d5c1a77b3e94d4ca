"""Patches of the image towers of open_clip: its own ViT and ResNet, and those of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcdistill.errors import ConfigError
from pcdistill.teachers.patches.network import (
    Colors,
    PatchNetwork,
    as_map,
    one_by_one,
    resize_positions,
)
from pcdistill.teachers.patches.timm_towers import patches_of_trunk

MASKCLIP = "maskclip"
"""Name of the teacher."""
OPENAI_COLORS = Colors((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def patches_of_tower(name: str, tower: Any, colors: Colors) -> PatchNetwork:
    """Find how the patches of an image tower come into the space of texts.

    Args:
        name: of the model, for the message.
        tower: the image side of a model of open_clip.
        colors: of its training's normalization.

    Raises:
        ConfigError: the tower is of a kind whose patches have no way into that space.
    """
    kind = type(tower).__name__
    network: PatchNetwork | None = None
    if kind == "VisionTransformer" and getattr(tower, "attn_pool_contrastive", None) is None:
        network = VitPatches(tower, colors)
    elif kind == "ModifiedResNet":
        network = ResNetPatches(tower, colors)
    elif kind == "TimmModel":
        kind = type(tower.trunk).__name__
        network = patches_of_trunk(tower, colors)
    if network is None:
        raise ConfigError(
            f"teacher '{MASKCLIP}': the image side of '{name}' is a {kind}, whose patches have no "
            "way into the space of texts; choose a model with a ViT, a ResNet or a ConvNeXt"
        )
    return network.eval().requires_grad_(False)


class VitPatches(PatchNetwork):
    """Patches of open_clip's own ViT: CLIP of OpenAI, LAION, DataComp, DFN, MetaCLIP, CoCa.

    As in MaskCLIP's code: values of the last layer, residual and MLP included. Where attention
    pools the patches (CoCa), that attention is the last and the layers remain whole.
    """

    def __init__(self, tower: Any, colors: Colors) -> None:
        """Take a tower as it is."""
        super().__init__(int(tower.conv1.kernel_size[0]), colors)
        self._tower = tower

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        tower = self._tower
        patches = tower.conv1(images)  # (B, C, h, w)
        grid = (patches.shape[2], patches.shape[3])
        tokens = self._with_positions(patches.flatten(2).transpose(1, 2), grid)  # (B, 1 + N, C)
        *blocks, last = tower.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        if tower.attn_pool is None:
            alone = last(one_by_one(tokens[:, 1:]))[:, 0]  # (B * N, C)
        else:
            alone = tower.attn_pool(one_by_one(last(tokens)[:, 1:]))[:, 0]
        return as_map(tower.ln_post(alone) @ tower.proj, grid)

    def _with_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        tower = self._tower
        own, of_patches = tower.positional_embedding[:1], tower.positional_embedding[1:]
        resized = resize_positions(of_patches, tuple(tower.grid_size), grid)
        first = tower.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        together = torch.cat([first, tokens], dim=1)
        return tower.ln_pre(together + torch.cat([own, resized]).to(tokens.dtype))  # type: ignore[no-any-return]


class ResNetPatches(PatchNetwork):
    """Cells of CLIP's ResNet: its last map through values and output of the pooling attention.

    As in MaskCLIP, without position embeddings: only the pooling attention has any.
    """

    STRIDE = 32
    """Pixels along a side of a cell."""

    def __init__(self, tower: Any, colors: Colors) -> None:
        """Take a tower as it is."""
        super().__init__(self.STRIDE, colors)
        self._tower = tower

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        tower = self._tower
        cells = tower.stem(images)
        for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
            cells = layer(cells)
        pool = tower.attnpool
        embedded: Tensor = pool.c_proj(pool.v_proj(cells.permute(0, 2, 3, 1)))  # (B, h, w, D)
        return embedded.permute(0, 3, 1, 2)
