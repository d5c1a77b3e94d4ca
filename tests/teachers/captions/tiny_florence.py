"""A folder of Florence-2 with a small random network and a tokenizer of single letters."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.fixtures.transformers_package import need_transformers

NAME = "Florence-2-base"
SIDE = 64
"""Pixels of the image that the network sees; it makes 5 tokens of it."""
PLACES = 1000


def write_tiny_florence(folder: Path, seed: int = 0) -> Path:
    """Write the folder `NAME` below another one, as transformers saves its parts."""
    transformers = need_transformers()
    from tokenizers import AddedToken, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters]
    tokenizer = transformers.BartTokenizer(
        vocab={name: number for number, name in enumerate(names)},
        merges=[],
        extra_special_tokens={"image_token": "<image>"},
    )
    places = [AddedToken(f"<loc_{place}>", normalized=False) for place in range(PLACES)]
    tokenizer.add_tokens(places)
    size = {"height": SIDE, "width": SIDE}
    pictures = transformers.CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False)
    pictures.image_seq_length = 5
    processor = transformers.Florence2Processor(
        pictures, tokenizer, post_processor_config={"pure_text": {}}
    )
    vision = {
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 8, 16],
        "num_heads": [1, 1, 1, 2],
        "num_groups": [1, 1, 1, 2],
        "window_size": 4,
        "projection_dim": 16,
        "drop_path_rate": 0.0,
    }
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 128,
        "init_std": 0.5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
    }
    config = transformers.Florence2Config(
        vision_config=vision, text_config=text, image_token_id=processor.image_token_id
    )
    torch.manual_seed(seed)
    path = folder / NAME
    transformers.Florence2ForConditionalGeneration(config).save_pretrained(path)
    processor.save_pretrained(path)
    return path
