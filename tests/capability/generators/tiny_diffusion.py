"""Tiny Stable Diffusions with random weights, in folders as the hub has them.

They are made of the classes of configurations of diffusers and transformers, and their files are
those of published models: safetensors, `vocab.json` and `merges.txt`, `model_index.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.capability.generators.stable_diffusion import noise_seed

PROMPT = "a good photo of a {} in a room"
WHOLE = ("a", "good", "photo", "of", "in", "room", "table", "chair", "shower", "curtain")
"""Words that are one token; all others are cut into letters and pieces."""
TEXT_LENGTH = 20


def write_tokenizer(folder: Path) -> int:
    """Write a CLIP tokenizer of a few words; returns the size of its vocabulary."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [",", "-"]
    vocabulary = letters + [f"{letter}</w>" for letter in letters]
    merges: list[str] = []
    for word in WHOLE:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merge = f"{pieces[0]} {pieces[1]}"
            pieces[:2] = [pieces[0] + pieces[1]]
            if merge not in merges:
                merges.append(merge)
            if pieces[0] not in vocabulary:
                vocabulary.append(pieces[0])
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TEXT_LENGTH,
        "do_lower_case": True,
        **special,
    }
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({v: i for i, v in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(vocabulary)


def write_tiny_diffusion(folder: Path, *, xl: bool = False, seed: int = 0) -> Path:
    """Write a whole model; images are of 64 x 64 pixels unless asked otherwise."""
    import diffusers
    import transformers

    torch.manual_seed(seed)
    size = write_tokenizer(folder / "tokenizer")
    words = transformers.CLIPTextConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        projection_dim=16,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )
    transformers.CLIPTextModel(words).save_pretrained(folder / "text_encoder")
    more = {}
    if xl:
        write_tokenizer(folder / "tokenizer_2")
        second = transformers.CLIPTextModelWithProjection(words)
        second.save_pretrained(folder / "text_encoder_2")
        more = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
            "transformer_layers_per_block": (1, 2),
            "use_linear_projection": True,
        }
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")
        if not xl
        else ("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
        if not xl
        else ("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=32 if xl else 16,
        norm_num_groups=4,
        **more,
    )
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                weight *= 6  # random attention is even otherwise
    unet.save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=64,
    ).save_pretrained(folder / "vae")
    diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(model_index(xl=xl)))
    return folder


def write_model_files(folder: Path, seed: int = 0) -> Path:
    """Write what is looked at before a model is loaded; the weights are a few bytes."""
    write_tokenizer(folder / "tokenizer")
    configs = {
        "unet": {"in_channels": 4, "sample_size": 8},
        "vae": {"latent_channels": 4, "block_out_channels": [4, 4, 4, 4]},
        "text_encoder": {},
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        stem = "model" if name == "text_encoder" else "diffusion_pytorch_model"
        (folder / name / f"{stem}.safetensors").write_bytes(bytes([seed]))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps(model_index(xl=False)))
    return folder


def draw_plainly(
    folder: Path, words: str, seeds: Sequence[int], *, xl: bool = False, **settings: Any
) -> Tensor:
    """(B, 3, H, W) uint8 that diffusers draws by itself, by the prompt of the tests."""
    pipeline = load_plainly(folder, xl=xl)
    images = pipeline(
        [PROMPT.replace("{}", words)] * len(seeds),
        generator=[torch.Generator().manual_seed(noise_seed(words, seed)) for seed in seeds],
        output_type="pt",
        **settings,
    ).images
    return (images * 255).round().to(torch.uint8)


def load_plainly(folder: Path, *, xl: bool) -> Any:
    """Diffusers' own way to load a model."""
    import diffusers

    if xl:
        kind, options = diffusers.StableDiffusionXLPipeline, {"add_watermarker": False}
    else:
        kind = diffusers.StableDiffusionPipeline
        options = dict.fromkeys(("safety_checker", "feature_extractor"))
    pipeline = kind.from_pretrained(folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def model_index(*, xl: bool) -> dict[str, object]:
    """As published: that of 1.5 names a safety checker, whether or not it is there."""
    parts: dict[str, object] = {
        "_diffusers_version": "0.6.0",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if xl:
        return {
            **parts,
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
    return {
        **parts,
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
