"""Students go from OpenScene's and SAS's files to ours and back, as a user types it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open

from pcdistill.errors import ConfigError
from pcdistill.networks import build_student, load_checkpoint, save_checkpoint
from tests.conftest import REPOSITORY, golden_cases
from tools.convert_checkpoint import convert, main

TOOL = REPOSITORY / "tools" / "convert_checkpoint.py"


class Typed(NamedTuple):
    """A command line that was carried out in this process."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def typed(capsys, monkeypatch):
    """Carries out a command line in this process, which spares the imports of so many runs."""

    def command(*arguments: object) -> Typed:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            failed = isinstance(ended.code, str)  # which Python prints as it ends
            shown = capsys.readouterr()
            return Typed(int(failed), shown.out, ended.code if failed else shown.err)
        return Typed(0, *capsys.readouterr())

    return command


def student():
    generator = torch.Generator().manual_seed(3)
    return build_student("MinkUNet18A", 3, 12, width=0.125, generator=generator)


def same(a, b) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def reference_file(path, network, prefix="module.net3d."):
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({"epoch": 41, "state_dict": state, "optimizer": {}, "best_iou": 0.47}, path)
    return path


def test_theirs_to_ours_and_back(tmp_path, typed):
    network = student()
    theirs = reference_file(tmp_path / "model_best.pth.tar", network)
    there = typed(theirs, tmp_path / "student.safetensors")
    assert there.returncode == 0, there.stderr
    assert "MinkUNet18A, width 0.125, 3 -> 12 channels" in there.stdout
    with safe_open(tmp_path / "student.safetensors", framework="pt") as file:
        origin = json.loads(file.metadata()["provenance"])["converted_from"]
    assert origin["file"] == "model_best.pth.tar"
    assert (origin["epoch"], origin["best_iou"], len(origin["sha256"])) == (41, 0.47, 64)

    convert(tmp_path / "student.safetensors", tmp_path / "again.pth")
    stored = torch.load(tmp_path / "again.pth", weights_only=True)["state_dict"]
    expected = {f"net3d.{key}": value for key, value in network.state_dict().items()}
    assert same(stored, expected)


@pytest.mark.parametrize("file", golden_cases("mink_unet/state_dict_manifest.json"))
def test_every_published_architecture_comes_back_with_its_keys(file, tmp_path):
    entry = min(json.loads(file.read_text()).values(), key=lambda e: e["n_parameters"])
    dtypes = {"float32": torch.float32, "int64": torch.int64}
    state = {key: torch.ones(s, dtype=dtypes[d]) for key, s, d in entry["keys"]}
    torch.save({"state_dict": state}, tmp_path / "published.pth")
    convert(tmp_path / "published.pth", tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.pth")
    stored = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    assert [[key, list(value.shape)] for key, value in stored.items()] == [
        [key, list(shape)] for key, shape, _ in entry["keys"]
    ]


def test_provenance_is_kept(tmp_path):
    save_checkpoint(tmp_path / "s.safetensors", student(), {"stage": "distill", "seed": 4})
    convert(tmp_path / "s.safetensors", tmp_path / "s.pth")
    provenance = load_checkpoint(tmp_path / "s.pth").metadata["provenance"]
    assert (provenance["stage"], provenance["seed"]) == ("distill", 4)
    assert provenance["converted_from"]["file"] == "s.safetensors"


def test_a_score_that_is_no_number_does_not_stop_it(tmp_path):
    state = student().state_dict()
    torch.save({"state_dict": state, "best_iou": math.nan}, tmp_path / "s.pth")
    convert(tmp_path / "s.pth", tmp_path / "s.safetensors")
    assert load_checkpoint(tmp_path / "s.safetensors").metadata["provenance"]


def test_mistakes_are_one_sentence(tmp_path, typed):
    theirs = reference_file(tmp_path / "theirs.pth", student())
    for target, said in (
        (tmp_path / "student.onnx", "suffix '.onnx' names no layout"),
        (theirs, "same file"),
    ):
        with pytest.raises(ConfigError, match=said):
            convert(theirs, target)
    ours = tmp_path / "ours.safetensors"
    ours.write_text("mine")
    with pytest.raises(ConfigError, match=r"exists; name another or pass --force"):
        convert(theirs, ours)
    assert ours.read_text() == "mine"
    convert(theirs, ours, force=True)
    load_checkpoint(ours)

    (tmp_path / "text.pth").write_text("no weights")
    failed = typed(tmp_path / "text.pth", tmp_path / "x.safetensors")
    assert failed.returncode == 1
    assert "text.pth: this is not a checkpoint of tensors and plain values" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_weights_left_over_are_named(tmp_path, typed):
    state = {**student().state_dict(), "extra.weight": torch.ones(2)}
    torch.save({"state_dict": state}, tmp_path / "s.pth")
    failed = typed(tmp_path / "s.pth", tmp_path / "x.safetensors")
    assert failed.returncode == 1
    assert "extra.weight" in failed.stderr
    done = typed(tmp_path / "s.pth", tmp_path / "x.safetensors", "--ignore-leftover")
    assert done.returncode == 0


def test_the_file_is_a_command():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, TOOL, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment).stdout
    assert "student.safetensors student.pth" in shown
    assert "--ignore-leftover" in shown
