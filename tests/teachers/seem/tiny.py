"""SEEM with small random weights, through the code of the full one."""

from __future__ import annotations

from pathlib import Path

import torch

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_text_encoder
from pcdistill.teachers.seem import SeemNetwork, SeemTeacher
from pcdistill.teachers.seem.network import SeemSizes
from tests.fixtures.open_clip_package import need_open_clip

SIZES = SeemSizes(
    backbone_channels=8,
    depths=(1, 1, 1, 1),
    channels=32,
    heads=2,
    hidden=32,
    encoder_layers=1,
    decoder_layers=3,
    queries=12,
    text_width=16,
    text_heads=2,
    text_layers=1,
    text_dimensions=16,
)
SURE = 5.0
"""Logarithm of the scale of the logits, so that some query is sure of its class."""


def build_tiny_seem(
    folder: Path, device: torch.device, weights: str = "seem", style: str = "segments"
) -> Teacher:
    """Write a checkpoint in the official layout and build the teacher that reads it.

    The test is skipped where there is no tokenizer.
    """
    need_open_clip()
    torch.manual_seed(1)
    state = SeemNetwork(SIZES).state_dict()
    for name in state:
        if name.endswith(("class_embed", "lang_proj", "positional_embedding")):
            state[name] = torch.randn(state[name].shape)
        elif name.endswith("logit_scale"):
            state[name] = torch.tensor(SURE)
    file = folder / "seem.pt"
    torch.save(state, file)
    setup = TeacherSetup(build_text_encoder(), WeightStore(folder, {weights: file}), device)
    return SeemTeacher(
        setup, weights=weights, style=style, sizes=SIZES, cache_folder=folder / "cache"
    )
