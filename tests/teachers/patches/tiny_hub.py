"""Folders of SigLIP2 and TIPSv2 with small random networks and a tokenizer of few words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pcdistill.teachers import Teacher, TeacherSetup, WeightStore, build_teacher
from pcdistill.teachers.hub_text import HubTextEncoder
from pcdistill.teachers.hub_text_models import HUB_TEXT_MODELS
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.patches.tiny import shake

WORDS = ("<pad>", "<eos>", "<bos>", "<unk>", "a", "wooden", "table")
WIDTHS = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 2}
VISION = {**WIDTHS, "patch_size": 16, "image_size": 48, "intermediate_size": 64}
TEXT = {**WIDTHS, "vocab_size": len(WORDS), "intermediate_size": 64}


def make_tiny(name: str, seed: int = 0) -> nn.Module:
    """A network of the kind of that model, in its dimensions but of two thin layers."""
    transformers = need_transformers()
    kind = HUB_TEXT_MODELS[name].kind
    vision: dict[str, Any] = dict(VISION)
    text: dict[str, Any] = {**TEXT, "max_position_embeddings": 64}
    if kind == "Siglip2Model":
        vision["num_patches"] = 9
        del vision["image_size"]
    if kind == "Tipsv2Model":
        del vision["intermediate_size"]
        vision["mlp_ratio"] = 0.1
    config = getattr(transformers, kind.replace("Model", "Config"))(
        text_config=text, vision_config=vision
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = getattr(transformers, kind)(config)
        shake(network)
    return network.eval().requires_grad_(False)


def write_tokenizer(folder: Path, end: bool) -> None:
    """One number a word in small letters; `end` adds the end of a text, as Gemma's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    numbers = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if end:
        tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", None, [("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def write_tiny(name: str, folder: Path) -> nn.Module:
    """Write the folder of a model below another one, and return its network."""
    network = make_tiny(name)
    network.save_pretrained(folder / name)  # type: ignore[operator]
    if HUB_TEXT_MODELS[name].family == "tipsv2":
        transformers = need_transformers()
        letters = {word: number for number, word in enumerate(("<pad>", "<unk>", "▁", "a", "b"))}
        transformers.Tipsv2Tokenizer(vocab=letters, merges=[]).save_pretrained(folder / name)
    else:
        write_tokenizer(folder / name, end=True)
    return network


def build_tiny_hub(name: str, folder: Path, device: torch.device) -> Teacher:
    """Write the folder of a model, and build the teacher of its image side."""
    write_tiny(name, folder)
    store = WeightStore(folder)
    encoder = HubTextEncoder(name, store, cache_folder=folder)
    return build_teacher(encoder.dense_teacher, TeacherSetup(encoder, store, device))
