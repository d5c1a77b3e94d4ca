"""Run by test_engine_triton.py: our Triton kernels against plain torch.

    TRITON_INTERPRET=1 python compare_triton.py cpu     # in Triton's interpreter
    python compare_triton.py cuda                       # the real thing

Prints one JSON object. In a process of its own, because the interpreter is chosen at import.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import triton.language as tl
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import InterpreterBuilder

from pcdistill.networks import build_student
from pcdistill.sparse import (
    CoordinateManager,
    GridSymmetry,
    SparseConv3d,
    SparseTensor,
    import_triton_kernels,
)
from pcdistill.sparse.engines import triton_engine
from pcdistill.sparse.engines.dense_engine import dense_convolution, dense_kernel_gradient
from pcdistill.sparse.engines.triton_engine import (
    TritonCoordinateManager,
    to_triton,
    triton_convolution,
)
from pcdistill.sparse.kernel_map import KernelMap, NeighborTable
from tests.sparse.test_convolution import random_voxels

DEVICE = torch.device(sys.argv[1])
TURN = GridSymmetry((1, 0, 2), (True, False, False))
FULL_TURN = GridSymmetry((1, 0, 2), (True, True, False))
FULL, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16
PATHS = (  # size, stride, swapped, turn, channels, dtypes
    (3, 1, False, None, (20, 36), (FULL, HALF, BRAIN)),
    (3, 1, True, TURN, (36, 20), (FULL, BRAIN)),
    (3, 1, False, TURN, (3, 20), (FULL, HALF, BRAIN)),
    (5, 1, False, None, (3, 20), (FULL, BRAIN)),
    (5, 1, False, None, (10, 12), (HALF,)),
    (2, 2, False, FULL_TURN, (20, 36), (FULL, HALF)),
    (2, 2, True, TURN, (20, 36), (FULL, HALF)),
    (2, 2, True, None, (36, 3), (FULL, BRAIN)),
    (2, 2, True, TURN, (2, 20), (FULL,)),
    (3, 2, False, None, (20, 12), (FULL,)),
    (3, 2, True, None, (12, 20), (FULL,)),
)
FAR_BYTES = 12 << 30
"""Free memory of a GPU from which rows with 64-bit addresses are tried."""
WAITS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "equal", "unique"}
"""Operations that make the host wait for a GPU."""


def repair_bfloat16_products() -> None:
    """Triton's interpreter multiplies the bits of bfloat16 as integers; make it their values."""
    plain = InterpreterBuilder.create_dot

    def create_dot(self, left, right, *rest):
        if left.dtype.scalar == tl.bfloat16:
            left, right = (self.cast_impl(side, tl.float32) for side in (left, right))
        return plain(self, left, right, *rest)

    InterpreterBuilder.create_dot = create_dot


def voxels(count: int, seed: int, spread: int = 4) -> Tensor:
    """Distinct voxels on the device."""
    return random_voxels(count, seed, spread=spread).to(DEVICE)


def drawn(pairs: KernelMap, channels: tuple[int, int], dtype: torch.dtype) -> list[Tensor]:
    """Features, kernel and upstream gradient that fit a kernel map."""
    generator = torch.Generator().manual_seed(0)
    shapes = (
        (pairs.n_source, channels[0]),
        (len(pairs.table.rows), *channels),
        (pairs.n_target, channels[1]),
    )
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype) for shape in shapes]


def by_triton(pairs: KernelMap, features: Tensor, kernel: Tensor, upstream: Tensor) -> list[Tensor]:
    """Output and both gradients."""
    leaves = [features.detach().requires_grad_(), kernel.detach().requires_grad_()]
    out = triton_convolution(*leaves, pairs)
    return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]


def by_torch(pairs: KernelMap, features: Tensor, kernel: Tensor, upstream: Tensor) -> list[Tensor]:
    """The same in float64, from the same numbers."""
    features, kernel, upstream = features.double(), kernel.double(), upstream.double()
    return [
        dense_convolution(features, kernel, pairs),
        dense_convolution(upstream, kernel.transpose(1, 2), pairs.transposed),
        dense_kernel_gradient(features, upstream, pairs, torch.float64),
    ]


def differences(pairs: KernelMap, channels: tuple[int, int], dtype: torch.dtype) -> list[float]:
    """Largest difference over the largest entry: of the output, of both gradients."""
    given = drawn(pairs, channels, dtype)
    found, expected = by_triton(pairs, *given), by_torch(pairs, *given)
    assert all(side.dtype == dtype for side in found)
    return [
        float((mine - other).abs().max() / other.abs().max()) if other.any() else float(mine.any())
        for mine, other in zip(found, expected, strict=True)
    ]


def paths() -> Iterator[tuple[str, list[float]]]:
    """Every kind of kernel map, in the dtypes that matter for it."""
    maps = CoordinateManager(voxels(48, seed=3))
    for size, stride, swapped, turn, channels, dtypes in PATHS:
        pairs = (maps if turn is None else maps.transformed(turn)).kernel_map(1, stride, size)
        pairs = pairs.transposed if swapped else pairs
        name = f"{size} stride {stride} swapped {swapped} turned {turn is not None} {channels}"
        for dtype in dtypes:
            yield f"{name} {dtype}", differences(pairs, channels, dtype)


def shapes() -> Iterator[tuple[str, list[float]]]:
    """Tables by hand: no rows on one side or the other, one row, and channels of any count."""
    for n_source, n_target in ((1, 1), (0, 5), (5, 0), (0, 0), (300, 2), (2, 300)):
        rows = torch.arange(3)[:, None] + torch.arange(n_target)
        rows = torch.where(rows < n_source, rows, n_source).to(DEVICE, torch.int32)
        pairs = KernelMap(NeighborTable(rows, n_source))
        yield f"{n_source} to {n_target} rows", differences(pairs, (9, 4), FULL)
    pairs = CoordinateManager(voxels(40, seed=1)).kernel_map(1, 2, 2)
    for channels in ((1, 1), (8, 8), (9, 16), (16, 17), (64, 65), (33, 96), (130, 1), (1, 130)):
        for dtype in (FULL, HALF):
            yield f"{channels} {dtype}", differences(pairs, channels, dtype)


def splits() -> Iterator[tuple[str, list[float] | list[int] | bool]]:
    """Gradients of a kernel as sums of several parts, or of one for lack of room; their bits."""
    pairs = CoordinateManager(voxels(200, seed=2)).kernel_map(1, 1, 3)
    triton_engine.MIN_SPLIT = 60
    parts: list[int] = []
    plain = triton_engine._launch

    def launch(function, programs, tensors, *rest):
        parts.extend(len(tensor) for tensor in tensors if tensor.dim() == 4)
        plain(function, programs, tensors, *rest)

    triton_engine._launch = launch
    given = drawn(pairs, (9, 5), FULL)
    runs = [by_triton(pairs, *given) for _ in range(2)]
    yield "same bits", all(torch.equal(one, two) for one, two in zip(*runs, strict=True))
    for room in (triton_engine.PARTIAL_BYTES, 1):
        triton_engine.PARTIAL_BYTES = room
        for channels in ((3, 5), (9, 5)):
            yield f"{channels} in {room} bytes", differences(pairs, channels, FULL)
    yield "parts", parts


def network() -> dict[str, float | bool]:
    """A step of a small network on turned maps by both engines, and whose kernel maps they use."""
    coords = voxels(48, seed=5, spread=6)
    features = torch.rand(len(coords), 3, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    maps = CoordinateManager(coords)
    results = []
    for engine in ("torch", "triton"):
        generator = torch.Generator().manual_seed(0)
        student = build_student(
            "MinkUNet14A", 3, 5, width=0.125, generator=generator, engine=engine
        ).to(DEVICE)
        out = student(SparseTensor(features, coords, maps=maps.transformed(TURN)))
        out.square().sum().backward()
        results.append([out.detach(), *(parameter.grad for parameter in student.parameters())])
        tables = {key: pairs.table for key, pairs in maps._kernel_maps.items()}
    mine, other = (torch.cat([value.flatten() for value in result]) for result in results)
    there = to_triton(SparseTensor(features, coords, maps=maps))
    return {
        "output": float((results[0][0] - results[1][0]).norm() / results[0][0].norm()),
        "gradients": float((mine - other).norm() / mine.norm()),
        "shared": all(there.maps.kernel_map(*key).table is tables[key] for key in tables),
        "found later": there.maps.kernel_map(1, 1, 7).table is maps.kernel_map(1, 1, 7).table,
        "rows": torch.equal(there.coords, coords) and torch.equal(there.features, features),
        "once": to_triton(there) is there and isinstance(there.maps, TritonCoordinateManager),
    }


class Watch(TorchDispatchMode):
    """Notes the operations of torch by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put_") else ()
        masked = any(index is not None and index.dtype == torch.bool for index in indices)
        self.names.add("nonzero" if masked else name)
        return function(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    """On a GPU torch itself raises an error when it waits for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    yield
    if DEVICE.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")


def promises() -> dict[str, list[str] | bool | str | float]:
    """What the host waits for, what is kept for the backward pass, and what autocast does."""
    coords = voxels(80, seed=1)
    x = to_triton(SparseTensor(torch.randn(80, 12).to(DEVICE), coords))
    first, second = SparseConv3d(12, 9, 3).to(DEVICE), SparseConv3d(9, 4, 2, stride=2).to(DEVICE)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    def step() -> list[Tensor]:
        leaf = x.sorted_features.clone().requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            middle = first(x.with_sorted(leaf))
            out = second(middle).sorted_features.sum()
        out.backward()
        return [leaf, first.kernel, middle.sorted_features, second.kernel]

    step()  # finds the neighbours, and brings the order of the slices over
    kept.clear()
    with Watch() as watch, no_waiting():
        inputs = step()
    addresses = {tensor.data_ptr() for tensor in inputs}
    with torch.autocast(DEVICE.type, torch.bfloat16):
        low = first(x).sorted_features
    middle = inputs[2].detach()
    return {
        "waits": sorted(watch.names & WAITS),
        "allocations were seen": "new_empty" in watch.names,
        "kept": len(kept),
        "kept beside inputs": sum(tensor.data_ptr() not in addresses for tensor in kept),
        "autocast": str(low.dtype),
        "autocast error": float((low.detach() - middle).abs().max() / middle.abs().max()),
    }


def far() -> dict[str, list[float]]:
    """Rows so far into the features, on a GPU, that their addresses take more than 32 bits."""
    if DEVICE.type == "cuda" and torch.cuda.mem_get_info()[0] < FAR_BYTES:
        return {}
    channels, last = 64, 8
    n_source = 2**31 // channels + last if DEVICE.type == "cuda" else 1000
    near = torch.tensor([[0, 3, last], [last, 1, 7]], dtype=torch.int32, device=DEVICE)
    table = torch.where(near < last, near + n_source - last, n_source).to(torch.int32)
    pairs, near_pairs = (
        KernelMap(NeighborTable(rows, count)) for rows, count in ((table, n_source), (near, last))
    )
    features, kernel, upstream = drawn(near_pairs, (channels, 20), HALF)
    long = features.new_zeros(n_source, channels)
    long[-last:] = features
    found = by_triton(pairs, long, kernel, upstream)
    found[1] = found[1][-last:]
    expected = by_torch(near_pairs, features, kernel, upstream)
    errors = [
        float((mine - other).abs().max() / other.abs().max())
        for mine, other in zip(found, expected, strict=True)
    ]
    return {f"{HALF}": errors}


def main() -> None:
    """Compare everything."""
    torch.manual_seed(0)
    if import_triton_kernels().RUNS_ON_CPU:
        repair_bfloat16_products()
    parts = (paths, shapes, far, network, promises, splits)
    print(json.dumps({part.__name__: dict(part()) for part in parts}))


if __name__ == "__main__":
    main()
