"""CLIP's text encoders against the official code, and what they keep on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.words import PROMPT, RunWords
from pcdistill.scenes import load_vocabulary
from pcdistill.teachers import WeightStore, encoder_revision
from pcdistill.teachers.clip_text import CLIP_DIMENSIONS, ClipTextEncoder
from pcdistill.teachers.clip_towers import build_text_tower, clip_tokenizer
from tests.conftest import GOLDEN
from tests.fixtures.open_clip_package import need_open_clip

FOLDER = GOLDEN / "teachers"
ROUNDING = 1e-5
NAME = "clip-vit-b-32"

needs_golden = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs {FOLDER}")


@pytest.fixture(autouse=True)
def open_clip():
    return need_open_clip()


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as stored:
        return dict(stored)


def reduced_weights() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays("clip_reduced_weights").items()}


def encoder_of(tmp_path, weights=None, cache="cache") -> ClipTextEncoder:
    """The reduced model through the code of the full one."""
    file = tmp_path / "clip.pt"
    torch.save(reduced_weights() if weights is None else weights, file)
    store = WeightStore(tmp_path, {NAME: file})
    return ClipTextEncoder(NAME, 128, store, cache_folder=tmp_path / cache)


@needs_golden
def test_texts_are_embedded_as_by_the_official_code(tmp_path):
    strings = json.loads((FOLDER / "clip_reduced_meta.json").read_text())["strings"]
    expected = functional.normalize(torch.from_numpy(arrays("clip_reduced_io")["text_features"]))
    kept = [number for number, text in enumerate(strings) if text.strip()]
    assert len(kept) == 51
    found = encoder_of(tmp_path).encode([strings[number] for number in kept])
    torch.testing.assert_close(found, expected[kept], atol=ROUNDING, rtol=0)


@needs_golden
def test_the_usual_gelu_would_be_seen(tmp_path, monkeypatch):
    """The golden model tells the two apart by a hundred times the tolerance."""
    import open_clip

    strings = json.loads((FOLDER / "clip_reduced_meta.json").read_text())["strings"][:20]
    expected = functional.normalize(torch.from_numpy(arrays("clip_reduced_io")["text_features"]))
    official = open_clip.CLIP
    monkeypatch.setattr(open_clip, "CLIP", lambda quick_gelu, **more: official(**more))
    found = encoder_of(tmp_path).encode(strings)
    assert (found - expected[:20]).abs().max() > 100 * ROUNDING


@needs_golden
def test_tokens_are_those_of_the_official_code():
    strings = json.loads((FOLDER / "clip_reduced_meta.json").read_text())["strings"]
    found = clip_tokenizer(NAME)(strings)
    assert np.array_equal(found.numpy(), arrays("clip_reduced_io")["token_ids"])


@needs_golden
def test_tokens_of_all_prompts_of_seem():
    vocabulary = json.loads((FOLDER / "seem_vocab.json").read_text())
    stored = arrays("seem_prompts_tokens")
    tokenizer = clip_tokenizer(NAME)
    for number, name in enumerate(vocabulary["cleaned_for_prompt"]):
        prompts = [template.format(name) for template in vocabulary["templates"]]
        found = tokenizer(prompts).numpy()
        ends = stored["eos_index"][number].tolist()
        for row, ids, end in zip(found, stored["ids"][number], ends, strict=True):
            assert row[: end + 1].tolist() == ids[: end + 1].tolist()


@needs_golden
def test_the_released_features_are_of_the_prompts_that_we_ask():
    """OpenAI's own weights are not here; their released features tell what was asked, and in D."""
    real = arrays("clip_vitb32_text_real")
    words = RunWords(None, None, load_vocabulary("indoor"), prompt=PROMPT)
    released = set(real["vocabulary_strings"].tolist())
    assert set(words.prompts(words.vocabulary)) == released - {"other"}
    assert real["vocabulary_embedding_fp16"].shape[1] == CLIP_DIMENSIONS[NAME]


@needs_golden
@pytest.mark.parametrize(
    ("name", "key"),
    [(NAME, "ViT-B-32-quickgelu"), ("clip-vit-l-14-336", "ViT-L-14-336-quickgelu")],
)
def test_every_key_of_the_full_size_is_read(tmp_path, name, key):
    report = json.loads((FOLDER / "clip_parity_report.json").read_text())
    weights = {k: torch.zeros(shape) for k, shape in report["openai_full_size_keys"][key].items()}
    tower = build_text_tower(name, weights, tmp_path)
    found = {k: v.shape for k, v in tower.state_dict().items() if k != "logit_scale"}
    text = {k: v.shape for k, v in weights.items() if not k.startswith(("visual.", "logit"))}
    assert found == text
    assert tower.text_projection.shape[1] == CLIP_DIMENSIONS[name]


@needs_golden
def test_a_script_archive_is_read_as_openai_publishes_it(tmp_path):
    """Compiled modules in half precision, with numbers beside them as buffers."""

    class Block(nn.Module):
        def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
            super().__init__()
            below: dict[str, dict[str, torch.Tensor]] = {}
            for key, value in tensors.items():
                first, _, rest = key.partition(".")
                if rest:
                    below.setdefault(first, {})[rest] = value
                else:
                    self.register_parameter(first, nn.Parameter(value.half(), False))
            for first, rest in below.items():
                self.add_module(first, Block(rest))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    weights = reduced_weights()
    whole = Block(weights)
    for name, value in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
        whole.register_buffer(name, torch.tensor(value))
    script, plain = tmp_path / "script", tmp_path / "plain"
    script.mkdir(), plain.mkdir()
    torch.jit.script(whole).save(script / "ViT-B-32.pt")
    found = ClipTextEncoder(NAME, 128, WeightStore(script), cache_folder=script).encode(["a bed"])
    rounded = {key: value.half() for key, value in weights.items()}
    assert torch.equal(found, encoder_of(plain, rounded).encode(["a bed"]))


@needs_golden
def test_what_was_embedded_once_needs_no_model(tmp_path, monkeypatch):
    texts = ["a bed", "a sofa", "a bed"]
    first = encoder_of(tmp_path).encode(texts)
    assert torch.equal(first[0], first[2])
    again = encoder_of(tmp_path)
    monkeypatch.setattr(again, "_embed", None)
    assert torch.equal(again.encode(texts), first)
    with pytest.raises(TypeError):
        again.encode(["a table"])


@needs_golden
def test_another_revision_embeds_anew(tmp_path):
    first = encoder_of(tmp_path)
    before = first.encode(["a bed"])
    weights = reduced_weights()
    weights["text_projection"] = weights["text_projection"].flip(1)
    other = encoder_of(tmp_path, weights)
    assert encoder_revision(other) != encoder_revision(first)
    torch.testing.assert_close(other.encode(["a bed"]), before.flip(1), atol=ROUNDING, rtol=0)


@needs_golden
def test_texts_too_long_are_cut_and_named(tmp_path, caplog):
    found = encoder_of(tmp_path).encode(["a " * 200])
    assert found.isfinite().all()
    assert "longer than the 75 tokens that clip-vit-b-32 reads" in caplog.text


@needs_golden
def test_weights_of_another_size_or_kind_are_refused(tmp_path):
    file = tmp_path / "ViT-B-32.pt"
    torch.save(reduced_weights(), file)
    whole = ClipTextEncoder(NAME, 512, WeightStore(tmp_path), cache_folder=tmp_path)
    with pytest.raises(ConfigError, match="embed texts in 128 dimensions, expected 512"):
        whole.encode(["a bed"])
    torch.save({"weight": torch.ones(2)}, file)
    other = ClipTextEncoder(NAME, 512, WeightStore(tmp_path), cache_folder=tmp_path)
    with pytest.raises(ArtifactError, match="not the weights of a CLIP"):
        other.encode(["a bed"])


def test_empty_texts_are_refused_and_no_texts_are_no_rows(tmp_path):
    file = tmp_path / "ViT-B-32.pt"
    torch.save({}, file)
    encoder = ClipTextEncoder(NAME, 512, WeightStore(tmp_path), cache_folder=tmp_path)
    with pytest.raises(ConfigError, match="a text to be embedded is empty"):
        encoder.encode(["a bed", " "])
    assert encoder.encode([]).shape == (0, 512)


@pytest.mark.parametrize("name", CLIP_DIMENSIONS)
def test_missing_weights_are_named_before_the_work(name, tmp_path):
    run = GeneralConfig(text_encoder=name, teachers=("detector",), weights_folder=str(tmp_path))
    message = rf"^{tmp_path}/.*: the weights '{name}' are not there; get them with"
    with pytest.raises(ConfigError, match=message):
        RunContext(RunConfig(run=run)).validate()
