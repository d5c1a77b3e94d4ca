"""Text and image side of OpenAI's CLIP, each in the sizes of its weights.

OpenAI's weights need the quick GELU, x * sigmoid(1.702 x); with the usual one they run and give
something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pcdistill.errors import ArtifactError
from pcdistill.teachers.open_clip_package import import_open_clip

HEAD_WIDTH = 64
"""Channels of an attention head in every CLIP of OpenAI."""
_VISUAL = "visual."
_NO_TEXT = (_VISUAL, "logit_scale", "input_resolution", "context_length", "vocab_size")
"""Prefixes of what the text side does not read."""
_SMALLEST: dict[str, dict[str, int]] = {
    "vision_cfg": {"layers": 1, "width": HEAD_WIDTH, "patch_size": 32, "image_size": 32},
    "text_cfg": {"layers": 1, "width": HEAD_WIDTH, "heads": 1, "vocab_size": 1},
}
"""Of the side that is not wanted."""


def build_text_tower(name: str, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Build the text side of a CLIP in the sizes of its weights, in float32 and eval mode.

    Args:
        name: of the model, for messages.
        weights: under OpenAI's names; those of the image side are left out.
        path: where they are from, for messages.

    Raises:
        ArtifactError: they are not the weights of a CLIP.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = import_open_clip(f"text encoder '{name}'")
    text = {k: v.float() for k, v in weights.items() if not k.startswith(_NO_TEXT)}
    try:
        vocabulary, width = text["token_embedding.weight"].shape
        sizes = {
            "context_length": text["positional_embedding"].shape[0],
            "vocab_size": vocabulary,
            "width": width,
            "heads": width // HEAD_WIDTH,
            "layers": _count_layers(text, "transformer.resblocks."),
        }
        dimensions = text["text_projection"].shape[1]
        network: nn.Module = _build(open_clip, dimensions, {**_SMALLEST, "text_cfg": sizes})
        network.visual = nn.Identity()
        _load(network, text, "logit")
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise _no_clip(name, path, error) from None
    return network.eval().requires_grad_(False)


def build_image_tower(name: str, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Build the image side of a CLIP with a ViT, in float32 and eval mode.

    Args:
        name: of the model, for messages.
        weights: under OpenAI's names; only those of the image side are read.
        path: where they are from, for messages.

    Raises:
        ArtifactError: they are not the weights of a CLIP with a ViT.
        MissingExtraError: open_clip is not installed.
    """
    open_clip = import_open_clip(f"teacher of '{name}'")
    image = {
        k.removeprefix(_VISUAL): v.float() for k, v in weights.items() if k.startswith(_VISUAL)
    }
    try:
        width, _, patch, _ = image["conv1.weight"].shape
        sizes = {
            "layers": _count_layers(image, "transformer.resblocks."),
            "width": width,
            "patch_size": patch,
            "image_size": patch * isqrt(image["positional_embedding"].shape[0] - 1),
            "head_width": HEAD_WIDTH,
        }
        network = _build(open_clip, image["proj"].shape[1], {**_SMALLEST, "vision_cfg": sizes})
        tower: nn.Module = network.visual
        _load(tower, image, "logit")
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise _no_clip(name, path, error) from None
    return tower.eval().requires_grad_(False)


def clip_tokenizer(name: str) -> Any:
    """The tokenizer of every CLIP of OpenAI: K texts -> (K, 77) int64.

    Raises:
        MissingExtraError: open_clip is not installed.
    """
    return import_open_clip(f"text encoder '{name}'").SimpleTokenizer()


def _build(open_clip: Any, dimensions: int, sizes: Mapping[str, Mapping[str, int]]) -> Any:
    return open_clip.CLIP(embed_dim=dimensions, quick_gelu=True, **sizes)


def _count_layers(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})


def _load(module: nn.Module, weights: Mapping[str, Tensor], without: str) -> None:
    """Load weights; KeyError names one that is missing or too many."""
    loaded = module.load_state_dict(weights, strict=False)
    odd = [
        key
        for key in (*loaded.missing_keys, *loaded.unexpected_keys)
        if not key.startswith(without)
    ]
    if odd:
        raise KeyError(odd[0])


def _no_clip(name: str, path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"{path}: not the weights of a CLIP under OpenAI's names ({str(error).splitlines()[0]}); "
        f"give those of '{name}'"
    )
