"""Checkpoints with raw and averaged weights: which are taken is said, and can be chosen."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import save_file

from pcdistill.errors import ArtifactError
from pcdistill.networks import load_checkpoint
from tests.networks.test_checkpoints import same_weights, small_student
from tools.convert_checkpoint import convert

RAW, AVERAGE = small_student(seed=1), small_student(seed=5)


def named(network, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in network.state_dict().items()}


def nested(raw: str, average: str) -> dict:
    return {raw: RAW.state_dict(), "epoch": 3, average: AVERAGE.state_dict()}


def side_by_side(raw: str, average: str) -> dict:
    return {"state_dict": {**named(RAW, raw), **named(AVERAGE, average)}, "epoch": 3}


def turned(raw: str, average: str) -> dict:
    """The average first."""
    return {"state_dict": {**named(AVERAGE, average), **named(RAW, raw)}}


IN_ONE = [
    ("model.", "ema."),
    ("model.", "model_ema."),
    ("model.", "ema_model."),
    ("module.net3d.", "ema.module.net3d."),
    ("net3d.", "net3d_ema."),
    ("", "ema."),
    ("", "module.ema."),
    ("student.", "teacher."),
    ("module.student.", "module.teacher."),
    ("net.", "averaged_net."),
    ("online_model.", "modelEMA."),
    ("base.", "swa."),
]
IN_TWO = [
    ("state_dict", "ema_state_dict"),
    ("state_dict", "state_dict_ema"),
    ("model", "model_ema"),
    ("model_state_dict", "ema"),
    ("student", "teacher"),
    ("network", "emamodel"),
]
FILES = [
    *((nested, *pair) for pair in IN_TWO),
    *((side_by_side, *pair) for pair in IN_ONE),
    *((turned, *pair) for pair in IN_ONE),
]


@pytest.mark.parametrize(("make", "raw", "average"), FILES)
def test_the_average_is_taken_and_said_and_the_other_can_be_chosen(
    tmp_path, caplog, make, raw, average
):
    path = tmp_path / "two.pth"
    torch.save(make(raw, average), path)
    with caplog.at_level(logging.WARNING):
        network, metadata = load_checkpoint(path)
    assert same_weights(network, AVERAGE)
    (line,) = [record.getMessage() for record in caplog.records]
    outer = "" if make is nested else "state_dict."
    names = [outer + name.rstrip(".") for name in (raw, average)]
    ours, others = (f"'{name.rstrip('.')}.'" for name in (names[1], names[0]))
    assert f"took {ours}, the average over training, and not {others}" in line
    assert "weights=" in line
    assert "--weights" in line
    assert metadata["weights"] == ours.strip("'")
    caplog.clear()
    for wanted in {raw, raw.rstrip("."), others.strip("'")}:
        assert same_weights(load_checkpoint(path, weights=wanted).network, RAW)
    for wanted in {average, average.rstrip("."), ours.strip("'")}:
        assert same_weights(load_checkpoint(path, weights=wanted).network, AVERAGE)
    assert not caplog.records  # who chooses knows


def test_raw_weights_and_those_of_torchs_average_are_told_apart(tmp_path, caplog):
    averaged = torch.optim.swa_utils.AveragedModel(AVERAGE).state_dict()
    assert "n_averaged" in averaged
    torch.save({"state_dict": {**RAW.state_dict(), **averaged}}, tmp_path / "a.pth")
    assert same_weights(load_checkpoint(tmp_path / "a.pth").network, AVERAGE)
    assert "took 'state_dict.module.', the average over training" in caplog.text
    torch.save(averaged, tmp_path / "b.pth")
    caplog.clear()
    assert same_weights(load_checkpoint(tmp_path / "b.pth").network, AVERAGE)
    assert not caplog.records


def test_of_two_that_nothing_tells_apart_the_first_is_taken_and_said(tmp_path, caplog):
    torch.save({**named(RAW, "net3d."), **named(AVERAGE, "module.net3d.")}, tmp_path / "x.pth")
    assert same_weights(load_checkpoint(tmp_path / "x.pth").network, RAW)
    assert "took 'net3d.', the first, and not 'module.net3d.'" in caplog.text
    chosen = load_checkpoint(tmp_path / "x.pth", weights="module.net3d.").network
    assert same_weights(chosen, AVERAGE)


def test_an_average_without_all_weights_is_not_taken(tmp_path, caplog):
    parameters = dict(AVERAGE.named_parameters())  # many averages leave the buffers out
    torch.save({"model": RAW.state_dict(), "ema": {"shadow": parameters}}, tmp_path / "x.pth")
    assert same_weights(load_checkpoint(tmp_path / "x.pth").network, RAW)
    assert "took 'model.', the first, and not 'ema.shadow.' (incomplete: 'ema.sh" in caplog.text
    with pytest.raises(ArtifactError, match="weights are missing"):
        load_checkpoint(tmp_path / "x.pth", weights="ema")


def test_two_networks_are_not_a_network_and_its_average(tmp_path):
    larger = small_student("MinkUNet18A")
    torch.save({"student": RAW.state_dict(), "teacher": larger.state_dict()}, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=r"several networks, 'student\.', 'teacher\.', .*--wei"):
        load_checkpoint(tmp_path / "x.pth")
    assert same_weights(load_checkpoint(tmp_path / "x.pth", weights="teacher").network, larger)
    assert same_weights(load_checkpoint(tmp_path / "x.pth", weights="student").network, RAW)


@pytest.mark.parametrize("wanted", ["emma.", "state", "m", "conv0p1s1", ""])
def test_a_prefix_that_no_set_has_is_refused_with_those_there_are(tmp_path, wanted):
    torch.save(side_by_side("model.", "ema."), tmp_path / "x.pth")
    message = rf"'{wanted}' names 0 of its sets .* 'state_dict\.model\.', 'state_dict\.ema\.'"
    with pytest.raises(ArtifactError, match=message):
        load_checkpoint(tmp_path / "x.pth", weights=wanted)


def test_a_prefix_that_several_sets_have_is_refused(tmp_path):
    torch.save(side_by_side("net.raw.", "net.ema."), tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match="'net' names 2 of its sets"):
        load_checkpoint(tmp_path / "x.pth", weights="net")


@pytest.mark.parametrize("prefix", ["model.", "ema.", "my.own.net3d.", "state.module.student."])
def test_one_set_behind_any_prefix_loads_without_a_word(tmp_path, caplog, prefix):
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    torch.save({"optimizer": optimizer, "model": named(RAW, prefix)}, tmp_path / "x.pth")
    network, metadata = load_checkpoint(tmp_path / "x.pth")
    assert same_weights(network, RAW)
    assert "weights" not in metadata
    assert not caplog.records


def test_what_belongs_to_neither_set_is_still_left_over(tmp_path):
    content = side_by_side("model.", "ema.")
    content["state_dict"]["head.weight"] = torch.ones(3, 3)
    content["state_dict"]["ema.decay"] = torch.tensor(0.999)
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=r"left over .*: 'head\.weight'; pass"):
        load_checkpoint(tmp_path / "x.pth")
    loaded, metadata = load_checkpoint(tmp_path / "x.pth", ignore_leftover=True)
    assert metadata["leftover_keys"] == ["head.weight"]
    assert same_weights(loaded, AVERAGE)


def test_a_safetensors_file_of_both_is_read_alike(tmp_path, caplog):
    save_file({**named(RAW, "model."), **named(AVERAGE, "ema.")}, tmp_path / "x.safetensors")
    assert same_weights(load_checkpoint(tmp_path / "x.safetensors").network, AVERAGE)
    assert "took 'ema.', the average over training, and not 'model.'" in caplog.text


def test_the_tool_says_what_it_took_and_takes_what_it_is_told(tmp_path):
    torch.save(side_by_side("model.", "ema."), tmp_path / "x.pth")
    said = convert(tmp_path / "x.pth", tmp_path / "a.safetensors")
    assert said.endswith("weights of 'state_dict.ema.'")
    assert same_weights(load_checkpoint(tmp_path / "a.safetensors").network, AVERAGE)
    said = convert(tmp_path / "x.pth", tmp_path / "b.safetensors", weights="model.")
    assert said.endswith("weights of 'state_dict.model.'")
    network, metadata = load_checkpoint(tmp_path / "b.safetensors")
    assert same_weights(network, RAW)
    assert metadata["provenance"]["converted_from"]["weights"] == "state_dict.model."
