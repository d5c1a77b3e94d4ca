"""Text encoders of models of open_clip: names, weights of files and folders, tokenizers."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.teachers import TeacherSetup, WeightStore, build_teacher, build_text_encoder
from pcdistill.teachers.open_clip_models import describe_open_clip, find_open_clip
from tests.fixtures.open_clip_package import need_open_clip
from tests.teachers.patches.tiny import VISION, shake

NAME = "open-clip:Tiny/mine"
OTHER = "open-clip:Tiny-words/mine"
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
SIZES = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "wooden": 4, "table": 5}
OTHER_SIZES = {
    **SIZES,
    "custom_text": True,
    "text_cfg": {
        **TEXT,
        "vocab_size": len(WORDS),
        "hf_tokenizer_name": "somebody/words",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}


@pytest.fixture(autouse=True)
def open_clip(monkeypatch):
    """open_clip with two small models among its own."""
    package = need_open_clip()
    known = package.factory._MODEL_CONFIGS
    monkeypatch.setitem(known, "Tiny", deepcopy(SIZES))
    monkeypatch.setitem(known, "Tiny-words", deepcopy(OTHER_SIZES))
    return package


def random_model(kind, sizes):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = kind(**{key: value for key, value in sizes.items() if key != "custom_text"})
        shake(network)
    return network.eval().requires_grad_(False)


def encoder_of(name: str, path: Path, cache: Path):
    encoder = build_text_encoder(name, WeightStore(None, {name: path}))
    encoder._cache_folder = cache
    return encoder


def write(network, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, file)
    return file


def test_texts_are_embedded_as_by_open_clip(tmp_path, open_clip):
    network = random_model(open_clip.CLIP, SIZES)
    encoder = encoder_of(NAME, write(network, tmp_path / "mine.safetensors"), tmp_path)
    texts = ["a wooden table", "a chair"]
    tokens = open_clip.SimpleTokenizer(context_length=12)(texts)
    expected = functional.normalize(network.encode_text(tokens), dim=1)
    torch.testing.assert_close(encoder.encode(texts), expected, atol=1e-6, rtol=0)
    assert (encoder.text_space, encoder.dimensions) == (NAME, 24)
    kept = list((tmp_path / "embeddings").iterdir())
    assert [folder.name.startswith("open-clip:Tiny--mine-") for folder in kept] == [True]


def test_a_checkpoint_of_a_training_is_read(tmp_path, open_clip):
    """Its names begin with `module.`, and the weights are in half precision below `state_dict`."""
    network = random_model(open_clip.CLIP, SIZES)
    weights = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
    file = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "state_dict": weights}, file)
    whole = encoder_of(NAME, write(network, tmp_path / "whole.safetensors"), tmp_path / "other")
    found = encoder_of(NAME, file, tmp_path).encode(["a table"])
    torch.testing.assert_close(found, whole.encode(["a table"]), atol=5e-3, rtol=0)


def test_maskclip_reads_the_image_side_of_the_same_weights(tmp_path, open_clip):
    network = random_model(open_clip.CLIP, SIZES)
    file = write(network, tmp_path / "mine.safetensors")
    store = WeightStore(None, {NAME: file})
    teacher = build_teacher("maskclip", TeacherSetup(build_text_encoder(NAME, store), store))
    found = teacher(torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8))
    assert found.features.shape == (24, 32, 43)
    assert teacher.text_space == NAME
    assert teacher.provenance["revision"] == f"{store.revision(NAME)}/maskclip/1"
    side = build_text_encoder(NAME, store).load_image_side()
    torch.testing.assert_close(side._tower.proj, network.visual.proj)


def write_folder(folder: Path, open_clip) -> torch.nn.Module:
    """A folder of the hub: weights of a model with a text side of its own, and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    network = random_model(open_clip.CustomTextCLIP, OTHER_SIZES)
    write(network, folder / "open_clip_model.safetensors")
    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("$A </s>", None, [("</s>", 1)])
    words.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return network


@pytest.mark.thorough
def test_a_tokenizer_of_transformers_is_read_from_the_folder_of_the_weights(tmp_path, open_clip):
    network = write_folder(tmp_path / "folder", open_clip)
    encoder = encoder_of(OTHER, tmp_path / "folder", tmp_path)
    tokens = torch.tensor([[3, 4, 5, 1] + 8 * [0], [2, 1] + 10 * [0]])
    expected = functional.normalize(network.encode_text(tokens), dim=1)
    found = encoder.encode(["A wooden table.", "elephant"])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.thorough
def test_a_folder_without_its_tokenizer_is_refused(tmp_path, open_clip):
    write_folder(tmp_path / "folder", open_clip)
    (tmp_path / "folder" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="has no tokenizer.json, expected the folder of weights"):
        encoder_of(OTHER, tmp_path / "folder", tmp_path).encode(["a table"])
    (tmp_path / "folder" / "tokenizer.json").write_text("{")
    with pytest.raises(ArtifactError, match="the tokenizer of 'open-clip:Tiny-words/mine' cannot"):
        encoder_of(OTHER, tmp_path / "folder", tmp_path).encode(["a table"])


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"of timm")
    with pytest.raises(ArtifactError, match="no weights of open_clip in this folder, expected one"):
        encoder_of(NAME, tmp_path, tmp_path).encode(["a table"])


def test_weights_of_another_model_are_refused(tmp_path, open_clip):
    wider = {**SIZES, "text_cfg": {**TEXT, "width": 128, "heads": 2}}
    file = write(random_model(open_clip.CLIP, wider), tmp_path / "mine.safetensors")
    with pytest.raises(ArtifactError, match=f"mine.safetensors: not the weights of '{NAME}'"):
        encoder_of(NAME, file, tmp_path).encode(["a table"])
    deeper = {**SIZES, "text_cfg": {**TEXT, "layers": 2}}
    write(random_model(open_clip.CLIP, deeper), file)
    with pytest.raises(ArtifactError, match=r"\('?transformer\.resblocks\.1"):
        encoder_of(NAME, file, tmp_path).encode(["a table"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open-clip:ViT-B16/openai", "open_clip has no model 'ViT-B16'; did you mean 'ViT-B-16'"),
        ("open-clip:ViT-B-16", r"names no weights; write open-clip:ViT-B-16/WEIGHTS .*datacomp_xl"),
        (
            "open-clip:roberta-ViT-B-32/laion2b_s12b_b32k",
            "is roberta-base, a model of transformers",
        ),
        ("open-clip:Tiny/other", r"run.weights.open-clip:Tiny/other is not given .* lists none"),
        (
            "open-clip:ViT-B-16/datacomp_xl_s13b_b90k",
            "hf download laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K --local-dir",
        ),
    ],
)
def test_names_that_cannot_be_are_refused_before_the_work(name, message, tmp_path):
    run = GeneralConfig(text_encoder=name, teachers=("maskclip",), weights_folder=str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        RunContext(RunConfig(run=run)).validate()


def test_what_open_clip_knows_of_weights_is_used():
    assert find_open_clip("open-clip:ViT-B-16/openai").config["quick_gelu"]
    assert not find_open_clip("open-clip:ViT-B-16/datacomp_xl_s13b_b90k").config["quick_gelu"]
    assert not find_open_clip("open-clip:ViT-B-16/mine").config["quick_gelu"]
    assert find_open_clip("open-clip:ViT-B-16-quickgelu/mine").config["quick_gelu"]
    siglip = find_open_clip("open-clip:ViT-B-16-SigLIP2-256/mine")
    assert siglip.published["mean"] == (0.5, 0.5, 0.5)
    assert siglip.tokenizer_files == ("tokenizer.json",)
    entry = describe_open_clip("open-clip:ViT-B-16-SigLIP2-256/webli")
    assert entry.address == "https://huggingface.co/timm/ViT-B-16-SigLIP2-256"
    assert entry.parts == ("tokenizer.json",)


def test_a_weight_store_takes_them_without_importing_open_clip(monkeypatch):
    import pcdistill.teachers.open_clip_models as models

    monkeypatch.setattr(models, "import_open_clip", None)
    WeightStore(None, {NAME: "mine.pt"})
    with pytest.raises(ConfigError, match="unknown weights 'openclip:Tiny/mine'"):
        WeightStore(None, {"openclip:Tiny/mine": "mine.pt"})
