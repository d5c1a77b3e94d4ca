"""Text encoders of SigLIP2 and TIPSv2: how a text is read, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pcdistill.errors import ArtifactError, ConfigError, MissingExtraError
from pcdistill.pipeline.config import GeneralConfig, RunConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.teachers import (
    TEACHERS,
    TEXT_ENCODERS,
    WEIGHT_FILES,
    TeacherSetup,
    WeightStore,
    build_teacher,
)
from pcdistill.teachers.hub_text import HubTextEncoder, require_tokenizer_reader
from pcdistill.teachers.hub_text_models import HUB_TEXT_MODELS
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.patches.tiny_hub import write_tiny

pytestmark = pytest.mark.thorough
NAFLEX, FIXED, TIPS = "siglip2-base-patch16-naflex", "siglip2-base-patch16-512", "tipsv2-b14"
ROUNDING = 1e-5


@pytest.fixture(autouse=True)
def transformers():
    return need_transformers()


def encoder_of(name, folder) -> HubTextEncoder:
    return HubTextEncoder(name, WeightStore(folder), cache_folder=folder / "cache")


@pytest.mark.parametrize("name", [NAFLEX, FIXED])
def test_siglip2_reads_small_letters_and_padding_without_a_mask(name, tmp_path):
    network = write_tiny(name, tmp_path)
    ids = torch.tensor([[4, 5, 6, 1] + 60 * [0], [4, 3, 1] + 61 * [0]])
    expected = functional.normalize(network.get_text_features(input_ids=ids).pooler_output, dim=1)
    found = encoder_of(name, tmp_path).encode(["a Wooden TABLE", "a spaceship"])
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)
    masked = network.get_text_features(input_ids=ids, attention_mask=(ids > 0).long())
    assert (functional.normalize(masked.pooler_output, dim=1) - found).abs().max() > 100 * ROUNDING


def test_tipsv2_averages_over_the_words_of_a_text(tmp_path):
    network = write_tiny(TIPS, tmp_path)
    ids = torch.tensor([[2, 3, 4]])  # the mark of a word, and its two letters
    expected = functional.normalize(network.get_text_features(input_ids=ids).pooler_output, dim=1)
    found = encoder_of(TIPS, tmp_path).encode(["aB"])
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=0)


def test_a_long_text_is_cut_and_named(tmp_path, caplog):
    write_tiny(NAFLEX, tmp_path)
    assert encoder_of(NAFLEX, tmp_path).encode(["a " * 80]).isfinite().all()
    assert f"longer than the 64 tokens that {NAFLEX} reads" in caplog.text


def test_the_folder_of_another_model_is_refused(tmp_path):
    write_tiny(FIXED, tmp_path)
    (tmp_path / FIXED).rename(tmp_path / NAFLEX)
    with pytest.raises(ArtifactError, match=f"{NAFLEX}: not a folder that Siglip2Model"):
        encoder_of(NAFLEX, tmp_path).encode(["a table"])
    (tmp_path / NAFLEX).rename(tmp_path / "siglip2-large-patch16-512")
    with pytest.raises(ConfigError, match="embed texts in 768 dimensions, expected 1024"):
        encoder_of("siglip2-large-patch16-512", tmp_path).encode(["a table"])


def test_a_tokenizer_of_more_words_than_the_network_is_refused(tmp_path):
    write_tiny(NAFLEX, tmp_path)
    file = tmp_path / NAFLEX / "tokenizer.json"
    file.write_text(
        file.read_text().replace('"table": 6', '"table": 60').replace('"table":6', '"table":60')
    )
    with pytest.raises(ArtifactError, match="its tokenizer has more words than its network"):
        encoder_of(NAFLEX, tmp_path).encode(["a table"])


def test_a_tokenizer_that_only_sentencepiece_reads_is_told_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("pcdistill.teachers.hub_text.find_spec", lambda name: None)
    with pytest.raises(
        MissingExtraError, match=r"tokenizer\.model, which sentencepiece and protobuf"
    ):
        require_tokenizer_reader(tmp_path, "text encoder 'tipsv2-b14'")
    (tmp_path / "tokenizer.json").write_text("{}")
    require_tokenizer_reader(tmp_path, "text encoder 'tipsv2-b14'")


@pytest.mark.parametrize("name", HUB_TEXT_MODELS)
def test_missing_folders_are_told_with_what_fetches_them(name, tmp_path):
    teacher = HUB_TEXT_MODELS[name].family
    run = GeneralConfig(text_encoder=name, teachers=(teacher,), weights_folder=str(tmp_path))
    with pytest.raises(ConfigError, match=f"hf download google/{name} --local-dir {tmp_path}"):
        RunContext(RunConfig(run=run)).validate()
    assert name in TEXT_ENCODERS
    assert name in WEIGHT_FILES
    assert teacher in TEACHERS


def test_each_teacher_reads_models_of_its_own_kind_only(tmp_path):
    store = WeightStore(tmp_path)
    with pytest.raises(ConfigError, match=r"'siglip2' reads the image side .* gives 'tipsv2-b14'"):
        build_teacher("siglip2", TeacherSetup(HubTextEncoder(TIPS, store), store))
    with pytest.raises(ConfigError, match=f"'maskclip' reads the image side .* gives '{NAFLEX}'"):
        build_teacher("maskclip", TeacherSetup(HubTextEncoder(NAFLEX, store), store))
