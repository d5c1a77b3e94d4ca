"""Recorder of cross-attention: processors that compute Eq. 1 plainly and add it up as they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pcdistill.capability.attention import AttentionAccumulator
from pcdistill.errors import ConfigError

_CROSS_ATTENTION = "attn2.processor"
"""End of the name of a cross-attention layer's processor; those of self-attention end in attn1."""
_OTHER_ATTENTION = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross")
"""Parts of a layer in diffusers that no Stable Diffusion has; each would change Eq. 1."""


class CrossAttentionRecorder:
    """Attention processor of diffusers that gives each layer's probabilities to an accumulator.

    What the layer returns is the same as with torch's scaled-dot-product attention, to rounding.
    Probabilities live as long as the layer computes.

    Source: SAS, Eq. 1.
    """

    def __init__(self, accumulator: AttentionAccumulator, images: int) -> None:
        """Record into `accumulator` the attention of the last `images` rows of each batch.

        Under classifier-free guidance these are the conditional half, else they are all.
        """
        self._accumulator = accumulator
        self._images = images

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend from pixels to the prompt.

        Args:
            attn: the layer, `diffusers.models.attention_processor.Attention`.
            hidden_states: (B, P, C) pixels.
            encoder_hidden_states: (B, L, D) tokens of the prompt.
            attention_mask: none, since prompts are padded with end tokens that count.
            temb: not used, as in the processor that this one stands for.

        Returns:
            (B, P, C).

        Raises:
            ValueError: there is a mask, or no prompt.
        """
        if encoder_hidden_states is None or attention_mask is not None:
            raise ValueError("cross-attention got a mask or no prompt, expected a prompt alone")
        heads = attn.heads
        query = _split_heads(attn.to_q(hidden_states), heads)  # (B, heads, P, c)
        key = _split_heads(attn.to_k(encoder_hidden_states), heads)  # (B, heads, L, c)
        value = _split_heads(attn.to_v(encoder_hidden_states), heads)
        scores = (query.float() * attn.scale) @ key.float().transpose(-1, -2)
        probabilities = torch.softmax(scores, dim=-1)  # (B, heads, P, L)
        self._accumulator.add(probabilities[-self._images :])
        mixed = (probabilities.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        project, dropout = attn.to_out
        result: Tensor = dropout(project(mixed))
        return result


def _split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, n, heads * c) as (B, heads, n, c)."""
    return states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)


@contextmanager
def recorded_cross_attention(
    unet: Any, accumulator: AttentionAccumulator, images: int
) -> Iterator[None]:
    """Record the cross-attention of a network inside the block.

    Self-attention keeps its processors, and all have their own again afterwards.

    Args:
        unet: a `UNet2DConditionModel`.
        accumulator: of the class tokens.
        images: that are drawn at once.

    Raises:
        ConfigError: the network has no cross-attention, or one that Eq. 1 does not describe.
    """
    own = dict(unet.attn_processors)
    cross = [name for name in own if name.endswith(_CROSS_ATTENTION)]
    if not cross:
        raise ConfigError(
            "the diffusion model has no cross-attention layers (attn2); name a Stable Diffusion "
            "with a UNet in synthesize.model"
        )
    for name in cross:
        _require_plain(name, unet.get_submodule(name.removesuffix(".processor")))
    recorder = CrossAttentionRecorder(accumulator, images)
    unet.set_attn_processor({**own, **dict.fromkeys(cross, recorder)})
    try:
        yield
    finally:
        unet.set_attn_processor(own)


def _require_plain(name: str, layer: Any) -> None:
    unknown = [part for part in _OTHER_ATTENTION if getattr(layer, part, None) is not None]
    if layer.residual_connection or layer.rescale_output_factor != 1:
        unknown.append("a connection of its own")
    if unknown:
        raise ConfigError(
            f"layer {name.removesuffix('.processor')} of the diffusion model has "
            f"{', '.join(unknown)}, expected plain cross-attention; name a Stable Diffusion with a "
            "UNet in synthesize.model"
        )
