"""Folders of transformers are read whole, without the network, code or pickles."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pcdistill.errors import ArtifactError, MissingExtraError
from pcdistill.teachers.hub_models import HubFolder
from tests.fixtures.transformers_package import need_transformers
from tests.teachers.captions.tiny_florence import write_tiny_florence

pytestmark = pytest.mark.thorough

MODEL, PROCESSOR = "Florence2ForConditionalGeneration", "Florence2Processor"
ONE_SENTENCE = r"^[^\n]*not a folder that Florence2\w+ of transformers reads[^\n]*$"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_tiny_florence(tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written, tmp_path):
    return HubFolder(
        shutil.copytree(written, tmp_path / "mine"), "florence-2", "captioner 'florence-2'"
    )


def test_a_network_is_read_frozen_and_in_the_precision_that_is_asked_for(folder, capfd):
    model = folder.load_model(MODEL)
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    halves = folder.load_model(MODEL, dtype=torch.float16)
    assert {weight.dtype for weight in halves.parameters()} == {torch.float16}
    folder.load_processor(PROCESSOR)
    assert capfd.readouterr() == ("", "")


def test_a_weight_that_is_missing_is_not_made_up(folder):
    file = folder.path / "model.safetensors"
    weights = load_file(file)
    gone = [key for key in weights if "encoder.layers.0.fc1" in key]
    assert gone
    for key in gone:
        del weights[key]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=ONE_SENTENCE) as caught:
        folder.load_model(MODEL)
    assert f"without {gone[0]}" in str(caught.value)
    assert "run.weights.florence-2" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"model_type": "florence2"}'])
def test_a_damaged_network_is_one_sentence(folder, name, content):
    (folder.path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=ONE_SENTENCE):
        folder.load_model(MODEL)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_a_damaged_processor_is_one_sentence(folder, name, content):
    (folder.path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=ONE_SENTENCE):
        folder.load_processor(PROCESSOR)


def test_a_pickle_is_not_read(folder, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (folder.path / "model.safetensors").unlink()
    (folder.path / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ArtifactError, match=ONE_SENTENCE):
        folder.load_model(MODEL)
    assert not (tmp_path / "harm").exists()


def test_a_class_that_is_newer_than_the_package_is_told(folder):
    need_transformers()
    with pytest.raises(MissingExtraError, match="needs Florence9Model of transformers, which 5"):
        folder.load_model("Florence9Model")
