"""Official checkpoints are read by their own names, others are refused in one sentence."""

from __future__ import annotations

import logging

import pytest
import torch

from pcdistill.errors import ArtifactError
from pcdistill.teachers.seem.checkpoint import load_seem
from tests.teachers.seem.reference import load_case, reduced_sizes


@pytest.fixture(scope="module")
def weights():
    return load_case("seem_reduced_weights")


def saved(tmp_path, content):
    file = tmp_path / "seem_focall_v0.pt"
    torch.save(content, file)
    return file


def test_all_tensors_are_taken_and_stay_frozen(tmp_path, weights):
    network = load_seem(saved(tmp_path, weights), reduced_sizes())
    own = network.state_dict()
    assert own.keys() == weights.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in weights.items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_halves_become_floats_and_what_only_a_training_needs_is_left_out(tmp_path, weights, caplog):
    halves = {name: tensor.half() for name, tensor in weights.items()}
    halves["criterion.empty_weight"] = torch.ones(134)  # in v0 only
    with caplog.at_level(logging.WARNING):
        network = load_seem(saved(tmp_path, halves), reduced_sizes())
    assert network.backbone.norm0.weight.dtype == torch.float32
    assert not caplog.records


def test_unknown_tensors_are_named_in_the_log(tmp_path, weights, caplog):
    with caplog.at_level(logging.WARNING):
        load_seem(saved(tmp_path, {**weights, "bbox.weight": torch.ones(2)}), reduced_sizes())
    assert "1 tensors beside SEEM's left out, the first: bbox.weight" in caplog.text


def test_another_network_is_refused_in_one_sentence(tmp_path, weights):
    fewer = {name: tensor for name, tensor in weights.items() if "norm3" not in name}
    with pytest.raises(
        ArtifactError, match=r"2 differences.*it lacks backbone\.norm3\.weight"
    ) as e:
        load_seem(saved(tmp_path, fewer), reduced_sizes())
    assert "seem_focall_v1.pt" in str(e.value)
    assert "\n" not in str(e.value)
    with pytest.raises(ArtifactError, match=r"is \(16, 3, 7, 7\), expected \(192, 3, 7, 7\)|lacks"):
        load_seem(saved(tmp_path, weights))
