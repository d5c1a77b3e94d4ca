"""A folder of SAM 3 with a small random network and a tokenizer of single letters."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_teacher, build_text_encoder
from tests.fixtures.transformers_package import need_transformers

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


def write_tiny_sam3(folder: Path, seed: int = 0) -> Path:
    """Write the folder `NAME` below another one, in the layout of the published one.

    There the network is a part of one for videos, whose own weights lie beside its.
    """
    transformers = need_transformers()
    from safetensors.torch import save_file
    from tokenizers import pre_tokenizers

    heads = {"hidden_size": 16, "num_attention_heads": 2}
    layer = {**heads, "intermediate_size": 32, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model",
                **heads,
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
        text_config={
            "model_type": "clip_text_model",
            **heads,
            "vocab_size": 514,
            "intermediate_size": 32,
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "max_position_embeddings": 32,
            "bos_token_id": 512,
            "eos_token_id": 513,
            "pad_token_id": 513,
        },
        geometry_encoder_config=layer,
        detr_encoder_config=layer,
        detr_decoder_config={**layer, "num_queries": 8},
        mask_decoder_config={**heads, "num_upsampling_stages": 2},
    )
    torch.manual_seed(seed)
    state = transformers.Sam3Model(config).state_dict()
    for name, weight in state.items():
        if weight.ndim > 1:
            weight *= LOUDER if name.startswith(("text_", "dot_product")) else LOUD
        elif name.endswith("presence_head.layer3.bias"):
            weight += PRESENT
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={name: number for number, name in enumerate(names)}, merges=[]
    )
    size = {"height": SIDE, "width": SIDE}
    pictures = transformers.Sam3ImageProcessor(size=size)
    path = folder / NAME
    transformers.Sam3Processor(pictures, tokenizer).save_pretrained(path)
    weights = {f"detector_model.{name}": weight.clone() for name, weight in state.items()}
    weights["tracker_model.memory"] = torch.zeros(2)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    whole = {"model_type": "sam3_video", "detector_config": config.to_dict()}
    (path / "config.json").write_text(json.dumps(whole))
    return path


def setup_of(folder: Path, device: torch.device) -> TeacherSetup:
    """For the words `WORDS`, with the embedded text encoder."""
    return TeacherSetup(build_text_encoder(), WeightStore(folder), device, vocabulary=WORDS)


def build_tiny_sam3(folder: Path, device: torch.device) -> Teacher:
    """Write the folder and build the teacher that reads it."""
    write_tiny_sam3(folder)
    return build_teacher("sam3", setup_of(folder, device))
