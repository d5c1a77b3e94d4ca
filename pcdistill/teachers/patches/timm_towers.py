"""Patches of the image towers that open_clip takes from timm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pcdistill.teachers.patches.network import Colors, PatchNetwork, as_map, one_by_one


def patches_of_trunk(tower: Any, colors: Colors) -> PatchNetwork | None:
    """Patches of a `TimmModel` of open_clip; None where they have no way into the text space.

    Args:
        tower: a trunk of timm with open_clip's head after it.
        colors: of its training's normalization.
    """
    trunk = tower.trunk
    if hasattr(trunk, "dynamic_img_size") and hasattr(trunk, "blocks"):
        return TimmVitPatches(tower, colors)
    if hasattr(trunk, "stages") and getattr(trunk, "output_fmt", "NCHW") == "NCHW":
        return TimmCells(tower, colors)
    return None


class TimmVitPatches(PatchNetwork):
    """Patches of a ViT of timm: SigLIP, SigLIP2, PE-Core, EVA02, MobileCLIP-B, ViTamin.

    Where attention pools the patches, each is pooled alone; else each passes the last layer alone.
    """

    def __init__(self, tower: Any, colors: Colors) -> None:
        """Let a tower take images of any size; position embeddings are resized by timm."""
        trunk = tower.trunk
        embed = trunk.patch_embed
        super().__init__(int(embed.img_size[0] // embed.grid_size[0]), colors)
        trunk.dynamic_img_size = True
        embed.strict_img_size = False
        embed.flatten = False
        embed.output_fmt = type(embed.output_fmt)("NHWC")
        self._tower = tower

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        trunk = self._tower.trunk
        grid = (images.shape[2] // self.patch, images.shape[3] // self.patch)
        if getattr(trunk, "rope", None) is not None:
            trunk.rope.update_feat_shape(grid)
        if trunk.attn_pool is not None:
            tokens = trunk.forward_features(images)[:, trunk.num_prefix_tokens :]
            alone = trunk.attn_pool(one_by_one(tokens))  # (B * N, C)
        else:
            before = len(trunk.blocks) - 2
            (tokens,) = trunk.forward_intermediates(
                images, indices=[before], output_fmt="NLC", intermediates_only=True, stop_early=True
            )
            alone = trunk.norm(trunk.blocks[-1](one_by_one(tokens)))[:, 0]
        return as_map(self._tower.head(trunk.head(trunk.fc_norm(alone))), grid)


class TimmCells(PatchNetwork):
    """Cells of a convolutional network of timm, each as if it were the whole map.

    The head of ConvNeXt and FastViT pools an average over cells; over one cell it is that cell.
    """

    def __init__(self, tower: Any, colors: Colors) -> None:
        """Take a tower as it is."""
        super().__init__(int(tower.trunk.feature_info[-1]["reduction"]), colors)
        self._tower = tower

    def embed(self, images: Tensor) -> Tensor:
        """(B, D, h, w) of (B, 3, H, W) normalized images."""
        trunk = self._tower.trunk
        cells = trunk.forward_features(images)  # (B, C, h, w)
        grid = (cells.shape[2], cells.shape[3])
        alone = cells.permute(0, 2, 3, 1).flatten(0, 2)[:, :, None, None]  # (B * h * w, C, 1, 1)
        return as_map(self._tower.head(trunk.forward_head(alone)), grid)
