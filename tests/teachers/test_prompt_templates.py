"""Class names in one prompt, and in the mean of a set."""

from __future__ import annotations

import json

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import GeneralConfig
from pcdistill.pipeline.words import RunWords
from pcdistill.prompts import PROMPT_SETS, fill_prompt
from pcdistill.scenes import load_label_set
from pcdistill.teachers import build_text_encoder, embed_names
from tests.conftest import golden_cases

SET = "imagenet-81"
VOCABULARY = golden_cases("teachers/seem_vocab.json")


@pytest.mark.parametrize("file", VOCABULARY)
def test_the_set_has_the_templates_of_the_release_in_order(file):
    assert list(PROMPT_SETS[SET]) == json.loads(file.read_text())["templates"]


def test_a_set_is_the_unit_mean_of_unit_embeddings():
    encoder = build_text_encoder()
    found = embed_names(encoder, SET, ["bed", "a } {0} sofa"])
    for row, name in zip(found, ["bed", "a } {0} sofa"], strict=True):
        rows = torch.stack([encoder.encode([t.replace("{}", name)])[0] for t in PROMPT_SETS[SET]])
        assert (rows.norm(dim=1) - 1).abs().max() < 1e-5
        torch.testing.assert_close(row, rows.mean(dim=0) / rows.mean(dim=0).norm())
    assert embed_names(encoder, SET, []).shape == (0, encoder.dimensions)


def test_one_template_is_read_as_it_is():
    encoder = build_text_encoder()
    assert torch.equal(embed_names(encoder, "a {}", ["bed"]), encoder.encode(["a bed"]))


def test_words_of_a_run_are_read_by_its_set():
    words = RunWords(build_text_encoder(), load_label_set("scannet20"), ("bed", "sofa"), prompt=SET)
    expected = embed_names(words.text_encoder, SET, ["bed", "sofa"])
    assert torch.equal(words.vocabulary_embeddings, expected)
    classes = embed_names(words.text_encoder, SET, words.label_set.prompt_names)
    assert torch.equal(words.label_embeddings, classes)
    assert torch.equal(words.training_embeddings, classes)
    assert words.prompts(("bed", "sofa")) == ["imagenet-81: bed", "imagenet-81: sofa"]


def test_a_prompt_is_a_template_or_the_name_of_a_set():
    assert GeneralConfig(prompt=SET).prompt == SET
    assert fill_prompt("a {} {room}", "bed") == "a bed {room}"
    with pytest.raises(ConfigError, match=r"must be a text with one \{\}, or imagenet-81"):
        GeneralConfig(prompt="imagenet")
