"""The engine 'triton' against plain torch, compiled for GPUs without one, and refused in words.

Where there is no GPU the kernels run in Triton's interpreter, on a handful of voxels: that shows
what they compute, not what a GPU's compiler makes of them. The same comparison runs on a GPU where
there is one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcdistill.errors import MissingExtraError
from pcdistill.networks import build_student
from pcdistill.sparse import (
    CoordinateManager,
    SparseMaxPool3d,
    SparseTensor,
    import_triton_kernels,
    to_triton,
)
from pcdistill.sparse.engines import triton_engine
from pcdistill.sparse.engines.minkowski_engine import MinkowskiCoordinateManager
from pcdistill.sparse.engines.triton_engine import TritonCoordinateManager, triton_convolution
from tests.conftest import REPOSITORY
from tests.sparse.test_convolution import random_voxels

CLOSE = {
    "torch.float32": 5e-7,
    "torch.float16": 2.0**-11,  # the last rounding; with sums in half precision it would be more
    "torch.bfloat16": 2.0**-7,  # likewise; the interpreter cuts off where a GPU rounds
}
"""Largest difference over the largest entry, from sums in float64 of the same numbers."""
NETWORK_CLOSE, GRADIENTS_CLOSE = 1e-5, 1e-4
"""Relative L2 in float32 over a whole network."""
SMALLEST_SHARED_MEMORY = 99 << 10
"""Bytes that a block may have on consumer cards."""

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed, so its kernels were neither compared nor compiled; "
    "pip install 'pcdistill[gpu]'",
)


def run(script: str, *arguments: str, **environment: str) -> dict | list:
    """What a script beside this one prints."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(script), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def found(request) -> dict:
    """All comparisons, in the interpreter or on a GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device, so the Triton kernels were compared in its interpreter only")
    interpreted = str(int(request.param == "cpu"))
    return run("subprocess_compare_triton.py", request.param, TRITON_INTERPRET=interpreted)


def dtype_of(name: str) -> str:
    return name.split()[-1] if name.split()[-1] in CLOSE else "torch.float32"


@needs_triton
@pytest.mark.parametrize(("part", "cases"), [("paths", 20), ("shapes", 22), ("far", 1)])
def test_output_and_gradients_equal_plain_torch(found, part, cases):
    if part == "far" and not found[part]:
        pytest.skip("less than 12 GiB are free on the GPU, so 64-bit addresses were not tried")
    assert len(found[part]) == cases
    for name, errors in found[part].items():
        assert max(errors) < CLOSE[dtype_of(name)], name


@needs_triton
def test_partial_sums_change_neither_the_gradient_nor_the_bits_of_a_repetition(found):
    splits = dict(found["splits"])
    assert splits.pop("parts") == [3, 3, 3, 3, 1, 1]
    assert splits.pop("same bits")
    assert len(splits) == 4
    for name, errors in splits.items():
        assert max(errors) < CLOSE["torch.float32"], name


@needs_triton
def test_a_network_on_turned_maps_takes_the_same_step(found):
    network = dict(found["network"])
    assert network.pop("output") < NETWORK_CLOSE
    assert network.pop("gradients") < GRADIENTS_CLOSE
    # the kernel maps are those of the tensor it came from, whichever was asked first
    assert network == {"shared": True, "found later": True, "rows": True, "once": True}


@needs_triton
def test_nothing_waits_and_nothing_gathered_is_kept(found):
    promises = dict(found["promises"])
    assert promises.pop("allocations were seen")  # the watch works
    assert promises.pop("autocast error") < 2e-2
    assert promises == {
        "waits": [],
        "kept": 4,
        "kept beside inputs": 0,
        "autocast": "torch.bfloat16",
    }


@needs_triton
@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("capability", ["90", "80"])
def test_kernels_compile_for_gpus_and_use_their_tensor_cores(capability, tmp_path):
    compiled = run("subprocess_compile_triton.py", capability, TRITON_CACHE_DIR=str(tmp_path))
    assert {(entry["kernel"], entry["features"]) for entry in compiled} == {
        (f"{kernel}_kernel", f"*{dtype}")
        for kernel in (
            *("convolution", "few_channels", "one_source"),
            *("kernel_gradient", "few_channels_gradient"),
        )
        for dtype in ("fp32", "fp16", "bf16")
    }
    for entry in compiled:
        name = f"{entry['kernel']} {entry['features']} for {entry['capability']}"
        assert entry["machine code bytes"] > 0, name
        assert entry["shared bytes"] <= SMALLEST_SHARED_MEMORY, name
        if entry["features"] == "*fp32" and entry["PRECISION"] == "ieee":
            assert not entry["products"], name  # no rounding to TF32
            assert entry["float32 sums"] > 0, name
            continue
        operand = {"*fp32": "tf32", "*fp16": "f16", "*bf16": "bf16"}[entry["features"]]
        assert entry["products"], name
        for product in entry["products"]:
            assert f".f32.{operand}.{operand}" in product, name  # sums in float32
    wide = [entry for entry in compiled if entry["OUTER"] == 128]
    assert wide
    if capability == "90":
        assert all("wgmma" in product for entry in wide for product in entry["products"])


@needs_triton
def test_a_tensor_on_the_cpu_is_refused_in_one_sentence():
    x = SparseTensor(torch.ones(30, 3), random_voxels(30, seed=1))
    network = build_student("MinkUNet14A", 3, 8, width=0.125, engine="triton")
    for attempt in (
        lambda: network(x),
        lambda: to_triton(x),
        lambda: triton_convolution(
            x.features, torch.ones(27, 3, 4), CoordinateManager(x.coords).kernel_map(1, 1, 3)
        ),
    ):
        with pytest.raises(ValueError, match=r"on NVIDIA GPUs only, .* are on cpu; move") as raised:
            attempt()
        assert "\n" not in str(raised.value)


def test_absence_is_one_sentence_that_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    import_triton_kernels.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'pcdistill\[gpu\]'") as raised:
        build_student("MinkUNet14A", 3, 8, width=0.125, engine="triton")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": torch.ones(30, 3).double()}, "are torch.float64 and the kernel is torch.flo"),
        ({"kernel": torch.ones(27, 3, 4).half()}, "and the kernel is torch.float16, but the eng"),
        ({"kernel": torch.ones(8, 3, 4)}, r"is \(8, 3, 4\), expected 30 rows and 27 slices"),
        ({"kernel": torch.ones(27, 5, 4)}, r"features are \(30, 3\) and the kernel is \(27, 5, 4"),
        ({"features": torch.ones(29, 3)}, r"features are \(29, 3\) .* expected 30 rows"),
        ({"kernel": torch.ones(27, 3, 4, device="meta")}, "the kernel is on meta and the kernel m"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, monkeypatch):
    monkeypatch.setattr(triton_engine, "_require_gpu", lambda device: None)
    pairs = CoordinateManager(random_voxels(30, seed=1)).kernel_map(1, 1, 3)
    arguments = {"features": torch.ones(30, 3), "kernel": torch.ones(27, 3, 4), **changes}
    with pytest.raises(ValueError, match=message):
        triton_convolution(**arguments, kernel_map=pairs)


def test_pooling_takes_the_same_kernel_maps():
    x = SparseTensor(torch.randn(30, 3), random_voxels(30, seed=1))
    there = SparseTensor(x.features, x.coords, maps=TritonCoordinateManager(x.maps))
    pool = SparseMaxPool3d(2, 2)
    assert torch.equal(pool(there).features, pool(x).features)


def test_a_tensor_of_minkowski_engine_is_refused(monkeypatch):
    monkeypatch.setattr(triton_engine, "_require_gpu", lambda device: None)
    x = SparseTensor(torch.ones(30, 3), random_voxels(30, seed=1))
    x.maps = MinkowskiCoordinateManager.__new__(MinkowskiCoordinateManager)
    with pytest.raises(ValueError, match="is on the engine 'minkowski'"):
        to_triton(x)
