"""Random weights at full size, in the layout of the official files.

What reads them is what reads a user's: names, shapes and sizes are those of trained weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .random_folders import FOLDERS


def write_weights(name: str, folder: Path) -> Path:
    """Write the random weights of an entry of the table of weights, under its authors' name."""
    from pcdistill.teachers import WEIGHT_FILES

    torch.manual_seed(0)
    file = folder / WEIGHT_FILES[name].file_name
    if name in FOLDERS:
        FOLDERS[name](file)
    else:
        torch.save(RANDOM[name](), file)
    return file


def _seem() -> dict[str, Tensor]:
    """SEEM Focal-L, its 932 tensors."""
    from pcdistill.teachers.seem import SeemNetwork

    return SeemNetwork().state_dict()


def _lseg() -> dict[str, Tensor]:
    """LSeg with the ViT-L/16 backbone."""
    from pcdistill.teachers.lseg.network import LSegNetwork

    return LSegNetwork().state_dict()


def _clip(size: str) -> dict[str, Tensor]:
    """OpenAI's CLIP of a size of open_clip, such as "ViT-B-32", image and text side."""
    import open_clip

    network: dict[str, Tensor] = open_clip.create_model(f"{size}-quickgelu").state_dict()
    return network


def _sam(size: str) -> dict[str, Tensor]:
    """Segment Anything of one of the published sizes, such as "vit_b"."""
    import segment_anything

    network: dict[str, Tensor] = segment_anything.sam_model_registry[size]().state_dict()
    return network


RANDOM: dict[str, Callable[[], dict[str, Tensor]]] = {
    "clip-vit-b-16": partial(_clip, "ViT-B-16"),
    "clip-vit-b-32": partial(_clip, "ViT-B-32"),
    "lseg": _lseg,
    "sam-vit-b": partial(_sam, "vit_b"),
    "sam-vit-h": partial(_sam, "vit_h"),
    "sam-vit-l": partial(_sam, "vit_l"),
    "seem": _seem,
}
"""Entry of the table of weights -> a state dict under its names."""
