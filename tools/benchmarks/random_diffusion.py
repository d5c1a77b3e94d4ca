"""Random weights of a full-size Stable Diffusion 1.5, in the folder that its authors publish.

The numbers of the configurations are those of the published files.
"""

from __future__ import annotations

import json
from pathlib import Path

WORDS = 49408
"""Tokens of CLIP; the last two begin and end a text."""


def write_stable_diffusion(folder: Path) -> None:
    """Write UNet (860 million weights), autoencoder, CLIP-L's text side, tokenizer, scheduler."""
    import diffusers
    import transformers

    diffusers.UNet2DConditionModel(
        sample_size=64,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        attention_head_dim=8,
        cross_attention_dim=768,
    ).save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        sample_size=512,
        latent_channels=4,
        layers_per_block=2,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(folder / "vae")
    text = transformers.CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        projection_dim=768,
    )
    transformers.CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")
    _write_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


def _write_tokenizer(folder: Path) -> None:
    """A vocabulary of CLIP's size that knows letters; the other tokens are never met."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    unmet = [f"unmet{number}</w>" for number in range(WORDS - len(known) - 2)]
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    vocabulary = [*known, *unmet, *ends.values()]
    special = {**ends, "pad_token": ends["eos_token"], "unk_token": ends["eos_token"]}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
