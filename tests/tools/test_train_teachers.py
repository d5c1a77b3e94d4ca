"""The tool that trains the embedded teachers: the same weights again, the shipped ones its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.homes import CLASSES
from pcdistill.teachers.demo.network import load_network
from tests.conftest import REPOSITORY
from tools import train_teachers

WEIGHTS = REPOSITORY / "pcdistill" / "teachers" / "demo" / "weights"


def train(cache: Path, out: Path, step: str) -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "train_teachers.py"), step]
    command += ["--cache", str(cache), "--out", str(out), "--jobs", "1", "--homes", "1"]
    command += ["--views", "2", "--pictures", "1", "--dense-steps", "2", "--mask-steps", "2"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.slow
def test_two_runs_give_the_same_digests(tmp_path):
    train(tmp_path / "a", tmp_path / "first", "all")
    train(tmp_path / "b", tmp_path / "second", "all")
    for name in ("dense", "masks"):
        first, second = (
            (tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("first", "second")
        )
        assert first == second
        _, details = load_network(tmp_path / "first" / f"{name}.safetensors")
        assert details["training"].startswith("2 steps ")


@pytest.mark.parametrize(
    ("name", "steps", "shares"),
    [
        ("dense", train_teachers.DENSE_STEPS, train_teachers.DENSE_SHARES),
        ("masks", train_teachers.MASK_STEPS, train_teachers.MASK_SHARES),
    ],
)
def test_the_shipped_weights_say_that_they_are_the_tool_s(name, steps, shares):
    _, details = load_network(WEIGHTS / f"{name}.safetensors")
    assert details["training"].startswith(f"{steps} steps ")
    assert details["shares"] == shares
    assert details["labels"] == list(shares)


def test_both_teachers_are_told_many_classes_in_different_degree():
    """Their skill differs in degree, not only in which classes exist."""
    dense, masks = train_teachers.DENSE_SHARES, train_teachers.MASK_SHARES
    shared = dense.keys() & masks.keys()
    assert len(shared) >= 12
    assert all(dense[name] != masks[name] for name in shared)
    assert set(dense) | set(masks) <= set(CLASSES)


def test_labels_are_told_in_the_share_of_pictures_that_is_asked_for():
    labels = torch.full((2000, 1, 2), CLASSES.index("bed"), dtype=torch.uint8)
    labels[:, :, 1] = CLASSES.index("chair")
    told = train_teachers.told(labels, {"chair": 1.0, "bed": 0.25}, 3)
    assert (told[:, 0, 1] == 0).all()
    fraction = float((told[:, 0, 0] == 1).float().mean())
    assert fraction == pytest.approx(0.25, abs=0.04)  # four standard deviations
    assert set(np.unique(told[:, 0, 0])) == {1, train_teachers.UNLABELLED}
