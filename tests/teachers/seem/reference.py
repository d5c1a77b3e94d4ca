"""The reduced SEEM of the reference fixtures: its sizes, weights and recorded values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.teachers.seem.network import SeemNetwork, SeemSizes
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "teachers"


def load_case(name: str) -> dict[str, Tensor]:
    """Arrays of one fixture; the test is skipped where it is absent."""
    file = FOLDER / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"no reference fixture {file} (set PCDISTILL_GOLDEN)")
    with np.load(file, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


def load_facts(name: str) -> Any:
    """Values beside a fixture; the test is skipped where they are absent."""
    file = FOLDER / f"{name}.json"
    if not file.is_file():
        pytest.skip(f"no reference fixture {file} (set PCDISTILL_GOLDEN)")
    return json.loads(file.read_text())


def reduced_sizes() -> SeemSizes:
    """Sizes of the reduced network."""
    sizes = load_facts("seem_reduced_meta")["config"]
    return SeemSizes(
        backbone_channels=sizes["E"],
        depths=tuple(sizes["depths"]),
        channels=sizes["hid"],
        heads=sizes["heads"],
        hidden=sizes["ff"],
        encoder_layers=sizes["enc"],
        decoder_layers=sizes["dec"] - 1,
        queries=sizes["nq"],
        text_width=sizes["tw"],
        text_heads=sizes["th"],
        text_layers=sizes["tl"],
        text_dimensions=sizes["proj"],
    )


def reduced_network() -> SeemNetwork:
    """The reduced network with the recorded weights."""
    network = SeemNetwork(reduced_sizes())
    network.load_state_dict(load_case("seem_reduced_weights"), strict=True)
    return network.eval().requires_grad_(False)


def assert_near(actual: Tensor, expected: Tensor, atol: float) -> None:
    """Elementwise |a - b| <= atol."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)
