"""Folders of transformers with random weights, at full size or small ones for tests.

Networks and processors are those of transformers, saved as published ones are; tokenizers know
single letters, so that words have more tokens than with the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .random_diffusion import write_stable_diffusion

TRACKER = "tracker_model.memory"
"""A weight that stands for the part of SAM 3 that follows things through videos."""


def write_sam3(
    path: Path,
    sizes: Mapping[str, Any] | None = None,
    image_side: int = 1008,
    change: Callable[[str, Tensor], Tensor] = lambda _, weight: weight,
) -> None:
    """Write a folder of SAM 3, where the network is a part of one for videos.

    Args:
        path: of the folder.
        sizes: sections of `Sam3Config` that are not those of the published network.
        image_side: pixels of the image that the network sees.
        change: gives the random weight of a name that is written.
    """
    import transformers
    from safetensors.torch import save_file
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[]
    )
    size = {"height": image_side, "width": image_side}
    pictures = transformers.Sam3ImageProcessor(size=size)
    transformers.Sam3Processor(pictures, tokenizer).save_pretrained(path)
    config = transformers.Sam3Config(**(sizes or {}))
    whole = {"model_type": "sam3_video", "detector_config": config.to_dict()}
    (path / "config.json").write_text(json.dumps(whole))
    state = transformers.Sam3Model(config).state_dict()
    weights = {f"detector_model.{key}": change(key, weight) for key, weight in state.items()}
    weights[TRACKER] = torch.zeros(2)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


FOLDERS: dict[str, Callable[[Path], None]] = {
    "sam3": write_sam3,
    "stable-diffusion-1.5": write_stable_diffusion,
}
"""Entry of the table of weights -> writes its folder."""
