"""The benchmark of the sparse network counts, compares and reports what it says it does."""

from __future__ import annotations

import argparse
import itertools
import json

import numpy as np
import pytest
import torch

from pcdistill.networks import build_student
from pcdistill.sparse import CoordinateManager
from tests.tolerances import FLOAT32
from tools.benchmarks import sparse
from tools.benchmarks.sparse_worker import (
    ENGINES,
    ConvolutionClock,
    OurNetwork,
    convolution_flop,
    peak_bytes,
)
from tools.benchmarks.sparse_worker import (
    LOW_PRECISION as LOW,
)


def sheet(side: int) -> np.ndarray:
    """(side * side, 4) int32: a wavy sheet."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side)))
    z = (4 + 3 * np.sin(x / 3.0)).astype(int)
    return np.stack((0 * x, x, y, z), axis=1).astype(np.int32)


def pairs(fine: set, coarse: set, offsets) -> int:
    return sum(
        (x + a, y + b, z + c) in fine
        for x, y, z in coarse
        for a, b, c in itertools.product(offsets, repeat=3)
    )


def test_operations_are_those_of_a_count_by_hand():
    coords = sheet(9)
    network = build_student("MinkUNet14A", 3, 5, planes=[2, 3, 4, 5, 6, 7, 8, 9], stem_channels=4)
    levels = {1: {tuple(row) for row in coords[:, 1:].tolist()}}
    for stride in (2, 4, 8, 16):
        levels[stride] = {tuple(c // stride for c in cell) for cell in levels[1]}
    around = {s: pairs(cells, cells, (-1, 0, 1)) for s, cells in levels.items()}
    size = {s: len(cells) for s, cells in levels.items()}
    expected = pairs(levels[1], levels[1], range(-2, 3)) * 3 * 4  # the stem
    # down and up again every fine voxel meets its one coarse voxel
    for fine, c_in in ((1, 4), (2, 2), (4, 3), (8, 4)):
        expected += size[fine] * c_in * c_in
    for fine, c_in, c_out in ((8, 5, 6), (4, 6, 7), (2, 7, 8), (1, 8, 9)):
        expected += size[fine] * c_in * c_out
    blocks = [(2, 4, 2), (4, 2, 3), (8, 3, 4), (16, 4, 5)]
    blocks += [(8, 6 + 4, 6), (4, 7 + 3, 7), (2, 8 + 2, 8), (1, 9 + 4, 9)]
    for stride, c_in, c_out in blocks:
        expected += around[stride] * (c_in + c_out) * c_out + size[stride] * c_in * c_out
    expected += size[1] * 9 * 5
    assert convolution_flop(network, CoordinateManager(torch.from_numpy(coords))) == 2 * expected


def test_the_clock_sees_every_convolution():
    network = build_student("MinkUNet14A", 3, 4, width=0.125).eval()
    model = OurNetwork("torch", torch.from_numpy(sheet(12)), network)
    with torch.no_grad(), ConvolutionClock(network) as clock:
        model()
    assert clock.complete
    assert clock.seconds > 0


def test_peak_memory_is_that_of_this_process():
    before = peak_bytes()
    block = torch.ones(64 << 20, dtype=torch.uint8)
    assert peak_bytes() >= before
    assert peak_bytes() > block.numel()


def test_scenes_are_grown_from_the_middle_of_as_many_homes_as_it_takes(monkeypatch):
    monkeypatch.setattr(sparse, "VOXEL_SIZE", 0.2)
    small, large = sparse.home_voxels((500, 9_000), seed=2)
    assert (len(small), len(large)) == (500, 9_000)
    for coords in (small, large):
        assert coords.dtype == np.int32
        assert len(np.unique(coords, axis=0)) == len(coords)
        assert coords.min() == 0


def test_page_section_takes_the_place_of_the_last_one(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"# Speed\n\n{sparse.BEGIN}\nold\n{sparse.END}\n\nend\n")
    sparse.write_section(page, "new")
    sparse.write_section(page, "newer")
    assert page.read_text() == f"# Speed\n\n{sparse.BEGIN}\n\nnewer\n\n{sparse.END}\n\nend\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="are missing; put them in"):
        sparse.write_section(page, "new")
    assert page.read_text() == "no marks"


def offered(monkeypatch, device: str, installed: set[str], *, cuda: bool) -> list[str]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(sparse, "has_fast_bfloat16", lambda device: cuda)
    monkeypatch.setattr(sparse.importlib.util, "find_spec", lambda name: name in installed)
    return list(sparse.available_engines(device))


def test_engines_for_gpus_are_measured_there_and_missed_aloud_elsewhere(monkeypatch, capsys):
    everything = offered(monkeypatch, "cuda", {"triton", "spconv"}, cuda=True)
    assert everything == ["torch", LOW, "triton", "spconv", "triton_bfloat16"]
    assert offered(monkeypatch, "cuda", {"spconv"}, cuda=True) == ["torch", LOW, "spconv"]
    assert "triton is left out: it is not installed; pip install triton" in capsys.readouterr().out
    here = offered(monkeypatch, "cpu", {"triton", "spconv"}, cuda=False)
    assert set(here) <= {"torch", "minkowski"}  # the second where its wheel was built
    said = capsys.readouterr().out
    for name in ("triton", "spconv"):
        assert f"{name} is left out: it is measured on a CUDA device only" in said


def test_the_end_of_an_engines_name_says_its_precision(monkeypatch):
    coords = torch.from_numpy(sheet(3))
    network = build_student("MinkUNet14A", 3, 4, width=0.125)
    chosen: list[str] = []
    monkeypatch.setattr(network, "set_engine", chosen.append)
    names = [name for name in ENGINES if name not in ("minkowski", "spconv")]
    low = [OurNetwork(name, coords, network).low_precision for name in names]
    assert list(zip(chosen, low, strict=True)) == [
        *(("torch", False), ("torch", True)),
        *(("triton", False), ("triton", True)),
    ]


@pytest.mark.slow
def test_one_small_scene_from_end_to_end(monkeypatch, capsys):
    monkeypatch.setattr(sparse, "home_voxels", lambda sizes, seed: [sheet(n) for n in sizes])
    monkeypatch.setattr(sparse, "available_engines", lambda device: {"torch": {}, LOW: {}})
    settings = argparse.Namespace(
        sizes=[36], quick=True, rounds=1, threads=1, device="cpu", seed=0, write=None
    )
    result = json.loads(json.dumps(sparse.run(settings)))
    assert result["voxels"] == 1296
    assert result["forward_speedup"] is None  # nothing to compare with, and no number instead
    assert result["gemm_share"] > 0
    assert result["scenes"][0]["engines"]["torch"]["step_seconds"] > 0
    assert result["scenes"][0]["triton_step_speedup"] is None
    assert 0 < result["max_relative_difference"][LOW] < 0.1
    for shares in result["scenes"][0]["profile"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=FLOAT32)
        assert shares["convolutions"] > 0
    page = capsys.readouterr().out
    assert "| 1,296 | torch |" in page
    assert "| convolutions |" in page
