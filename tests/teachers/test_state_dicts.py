"""Tensors are read from every format of weights, and no code of a file is run."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pcdistill.errors import ArtifactError
from pcdistill.teachers.state_dicts import load_state_dict


class Evil:
    """What it names is called as it is unpickled."""

    def __init__(self, target: Path, how: str = "system") -> None:
        self.target, self.how = target, how

    def __reduce__(self):
        if self.how == "system":
            return os.system, (f"touch {self.target}",)
        return eval, (f"open({str(self.target)!r}, 'w')",)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2).half()))


def same(found, expected) -> None:
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert torch.equal(found[key], value), key


def save_zip(path, weights):
    torch.save(weights, path)


def save_legacy(path, weights):
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def save_lightning(path, weights):
    settings = argparse.Namespace(lr=1e-3, names=["a"])
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    content = {"epoch": 1, "hparams": settings, "optimizer": optimizer, "state_dict": weights}
    torch.save(content, path)


def save_lightning_legacy(path, weights):
    content = {"hparams": argparse.Namespace(lr=1e-3), "state_dict": weights}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_numpy_pickle(path, weights):
    path.write_bytes(pickle.dumps({key: value.numpy() for key, value in weights.items()}))


def save_numpy_pickle_for_python_2(path, weights):
    arrays = OrderedDict((key, value.numpy()) for key, value in weights.items())
    path.write_bytes(pickle.dumps(arrays, protocol=2))


def save_tensor_pickle(path, weights):
    path.write_bytes(pickle.dumps(dict(weights)))


def save_safetensors(path, weights):
    save_file(dict(weights), path)


@pytest.mark.parametrize(
    "save",
    [
        *(save_zip, save_legacy, save_lightning, save_lightning_legacy, save_tensor_pickle),
        *(save_numpy_pickle, save_numpy_pickle_for_python_2),
    ],
)
def test_every_format_gives_the_same_tensors(tmp_path, save):
    weights = network().state_dict()
    save(tmp_path / "weights", weights)
    same(load_state_dict(tmp_path / "weights"), weights)


def test_safetensors_are_read(tmp_path):
    weights = network().state_dict()
    save_safetensors(tmp_path / "weights", weights)
    same(load_state_dict(tmp_path / "weights"), dict(sorted(weights.items())))


def test_a_script_archive_gives_its_parameters_and_buffers_without_its_program(
    tmp_path, monkeypatch
):
    whole = network().eval()
    torch.jit.script(whole).save(tmp_path / "weights.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    found = load_state_dict(tmp_path / "weights.pt")
    expected = whole.state_dict()
    assert set(found) == set(expected)
    same({key: found[key] for key in expected}, expected)


@pytest.mark.parametrize("how", ["system", "eval"])
@pytest.mark.parametrize("place", ["alone", "beside", "below", "torch", "legacy"])
def test_a_malicious_pickle_runs_nothing(tmp_path, how, place):
    target, path = tmp_path / "touched", tmp_path / "evil.pkl"
    evil, good = Evil(target, how), {"weight": torch.ones(2)}
    content = evil if place == "alone" else {"state_dict": good, "extra": evil}
    if place == "below":
        content = {"state_dict": {**good, "bias": [evil]}}
    if place in ("torch", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=place == "torch")
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ArtifactError, match=r"evil.pkl: not read, .* names \S+(system|eval),"):
        load_state_dict(path)
    assert not target.exists()


def test_objects_of_a_training_are_no_way_to_run_code(tmp_path):
    """A class of a package that trainings use is never imported, and what it is given is inert."""
    path = tmp_path / "weights"
    path.write_bytes(b"cpytorch_lightning.utilities\nrun\n(S'touch x'\ntR.")
    with pytest.raises(ArtifactError, match="found no tensors by name"):
        load_state_dict(path)


@pytest.mark.parametrize(
    "content",
    [
        b"Nr" + struct.pack("<I", 1 << 26) + b".",  # remembers nothing as number 67,108,864
        b"cbuiltins\nbytearray\n(J" + struct.pack("<i", 1 << 30) + b"tR.",
    ],
    ids=["memo", "zeros"],
)
def test_a_number_in_a_pickle_takes_no_memory(tmp_path, content):
    path = tmp_path / "weights"
    path.write_bytes(b"\x80\x02" + content)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match="weights: "):
            load_state_dict(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"weight": np.array([None, "a"], dtype=object)}))
    with pytest.raises(ArtifactError, match="array of object, expected numbers"):
        load_state_dict(path)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_safetensors, save_numpy_pickle])
def test_a_truncated_file_is_named(tmp_path, save):
    path = tmp_path / "weights"
    save(path, network().state_dict())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match=rf"{path}: .*(damaged|no pickle)") as caught:
        load_state_dict(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {"state_dict": {"a": 1}}])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights")
    with pytest.raises(ArtifactError, match="found no tensors by name"):
        load_state_dict(tmp_path / "weights")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no such file of weights"):
        load_state_dict(tmp_path / "none.pt")
