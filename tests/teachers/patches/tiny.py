"""Small models of images and texts with random weights, in the layouts of official ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.clip_text import ClipTextEncoder
from tests.fixtures.open_clip_package import need_open_clip

VISION = {"layers": 2, "width": 64, "head_width": 64, "patch_size": 16, "image_size": 48}
TEXT = {"context_length": 16, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}


def make_tiny_clip(seed: int = 1, **changes: Any) -> nn.Module:
    """A CLIP of open_clip with random weights that are no longer those of an initialization."""
    open_clip = need_open_clip()
    sizes = {"embed_dim": 512, "vision_cfg": VISION, "text_cfg": TEXT, "quick_gelu": True}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = open_clip.CLIP(**{**sizes, **changes})
        shake(network)
    return network.eval().requires_grad_(False)


def shake(network: nn.Module) -> None:
    """Move every parameter, so that none is zero or one."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))


def build_tiny_maskclip(folder: Path, device: torch.device) -> Teacher:
    """Write weights into a folder, and build the teacher of the text encoder that reads them."""
    torch.save(make_tiny_clip().state_dict(), folder / "ViT-B-32.pt")
    store = WeightStore(folder)
    encoder = ClipTextEncoder("clip-vit-b-32", 512, store, cache_folder=folder)
    return build_teacher("maskclip", TeacherSetup(encoder, store, device))
