"""A folder of SAM 3 with a small random network and a tokenizer of single letters."""

from __future__ import annotations

from pathlib import Path

import torch

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_teacher, build_text_encoder
from tests.fixtures.transformers_package import need_transformers
from tools.benchmarks.random_folders import write_sam3

NAME = "sam3"
SIDE = 56
"""Pixels of the image that the network sees."""
WORDS = ("bed", "chair", "table", "wall", "floor", "door")
LOUD = 5.0
"""Factor of random weights, so that answers depend on what is seen and asked."""
LOUDER = 10.0
"""Of those that read words and compare."""
PRESENT = 4.0
"""Logarithm of the odds that a word is there."""


HEADS = {"hidden_size": 16, "num_attention_heads": 2}
LAYER = {**HEADS, "intermediate_size": 32, "num_layers": 1}
SIZES = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            **HEADS,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "image_size": SIDE,
            "patch_size": 14,
            "window_size": 2,
            "global_attn_indexes": [1],
            "pretrain_image_size": 28,
        },
        "fpn_hidden_size": 16,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    },
    "text_config": {
        "model_type": "clip_text_model",
        **HEADS,
        "vocab_size": 514,
        "intermediate_size": 32,
        "projection_dim": 16,
        "num_hidden_layers": 1,
        "max_position_embeddings": 32,
        "bos_token_id": 512,
        "eos_token_id": 513,
        "pad_token_id": 513,
    },
    "geometry_encoder_config": LAYER,
    "detr_encoder_config": LAYER,
    "detr_decoder_config": {**LAYER, "num_queries": 8},
    "mask_decoder_config": {**HEADS, "num_upsampling_stages": 2},
}


def write_tiny_sam3(folder: Path, seed: int = 0) -> Path:
    """Write the folder `NAME` below another one, in the layout of the published one."""
    need_transformers()
    torch.manual_seed(seed)
    path = folder / NAME
    write_sam3(path, SIZES, SIDE, louder)
    return path


def louder(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight with which scores lie on both sides of one half."""
    if weight.ndim > 1:
        return weight * (LOUDER if name.startswith(("text_", "dot_product")) else LOUD)
    return weight + PRESENT if name.endswith("presence_head.layer3.bias") else weight


def setup_of(folder: Path, device: torch.device) -> TeacherSetup:
    """For the words `WORDS`, with the embedded text encoder."""
    return TeacherSetup(build_text_encoder(), WeightStore(folder), device, vocabulary=WORDS)


def build_tiny_sam3(folder: Path, device: torch.device) -> Teacher:
    """Write the folder and build the teacher that reads it."""
    write_tiny_sam3(folder)
    return build_teacher("sam3", setup_of(folder, device))
