"""Sparse convolution against a loop over voxels, its gradients, and its symmetries."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.sparse import (
    CoordinateManager,
    GridSymmetry,
    SparseAvgPool3d,
    SparseConv3d,
    SparseConvTranspose3d,
    SparseMaxPool3d,
    SparseTensor,
)
from pcdistill.sparse.engines import cpu_engine, cpu_kernels, dense_engine
from pcdistill.sparse.engines.cpu_engine import cpu_convolution, cpu_kernel_gradient
from pcdistill.sparse.engines.dense_engine import dense_convolution, dense_kernel_gradient
from pcdistill.sparse.kernel_map import KernelMap
from tests.conftest import REPOSITORY
from tests.hidden_features import HIDDEN

FLOAT64_SUMS = 1e-11
"""Sums of up to thousands of products near 1: each step rounds partial sums up to 100 by 1e-14."""
FLOAT64_NORM, FLOAT32_NORM = 1e-13, 1e-5
"""The same, relative to the whole result: a thousand times the spacing at 1, a hundred times."""

Cell = tuple[int, int, int, int]


def random_voxels(count: int, seed: int, stride: int = 1, spread: int = 4) -> Tensor:
    """Distinct voxels of two batch entries around the origin, in random order."""
    generator = torch.Generator().manual_seed(seed)
    side = 2 * spread
    keys = torch.randperm(2 * side**3, generator=generator)[:count]
    cells = torch.stack([keys // side**3, keys // side**2 % side, keys // side % side, keys % side])
    cells[1:] = (cells[1:] - spread) * stride
    return cells.T.to(torch.int32).contiguous()


def offsets(size: int, scale: int) -> list[tuple[int, int, int]]:
    """Offsets of a kernel by hand: x fastest, odd kernels centred, even ones from 0."""
    low = -(size // 2) if size % 2 else 0
    axis = range(low, low + size)
    return [(x * scale, y * scale, z * scale) for z, y, x in itertools.product(axis, repeat=3)]


def loop_pairs(
    in_cells: list[Cell], out_cells: list[Cell], size: int, scale: int
) -> list[tuple[int, int, int]]:
    """(output row, offset, input row) of every meeting."""
    row = {cell: i for i, cell in enumerate(in_cells)}
    return [
        (o, k, row[b, x + dx, y + dy, z + dz])
        for o, (b, x, y, z) in enumerate(out_cells)
        for k, (dx, dy, dz) in enumerate(offsets(size, scale))
        if (b, x + dx, y + dy, z + dz) in row
    ]


def cells_of(coords: Tensor) -> list[Cell]:
    return [tuple(row) for row in coords.tolist()]


def loop_convolution(
    features: Tensor, in_cells: list[Cell], out_cells: list[Cell], kernel: Tensor, scale: int
) -> Tensor:
    slices = kernel if kernel.dim() == 3 else kernel[None]
    out = [features.new_zeros(slices.shape[2]) for _ in out_cells]
    for o, k, i in loop_pairs(in_cells, out_cells, round(len(slices) ** (1 / 3)), scale):
        out[o] = out[o] + features[i] @ slices[k]
    return torch.stack(out) if out else features.new_zeros(0, slices.shape[2])


def coarse_cells(cells: list[Cell], stride: int) -> set[Cell]:
    return {(b, *(c // stride * stride for c in xyz)) for b, *xyz in cells}


def with_gradients(out: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return (out.detach(), *torch.autograd.grad((out * weights).sum(), leaves))


@pytest.mark.parametrize("in_stride", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"),
    [
        *[(1, 1, 1), (2, 1, 1), (3, 1, 1), (5, 1, 1), (3, 1, 2), (3, 1, 3), (2, 1, 2)],
        *[(1, 2, 1), (2, 2, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (3, 3, 1)],
    ],
)
def test_convolution_equals_a_loop_over_voxels(size, stride, dilation, bias, in_stride):
    coords = random_voxels(120, seed=size + 10 * stride + 100 * dilation, stride=in_stride)
    torch.manual_seed(0)
    layer = SparseConv3d(3, 4, size, stride, dilation, bias=bias).double()
    features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
    out = layer(SparseTensor(features, coords, stride=in_stride))
    out_cells, out_stride = cells_of(out.coords), in_stride * stride
    assert out.stride == out_stride
    if stride == 1:
        assert torch.equal(out.coords, coords)
    else:
        assert len(set(out_cells)) == len(out_cells)
        assert set(out_cells) == coarse_cells(cells_of(coords), out_stride)
    want = loop_convolution(
        features, cells_of(coords), out_cells, layer.kernel, in_stride * dilation
    )
    if bias:
        want = want + layer.bias
    leaves = (features, *layer.parameters())
    for have, wanted in zip(
        with_gradients(out.features, *leaves), with_gradients(want, *leaves), strict=True
    ):
        torch.testing.assert_close(have, wanted, rtol=0, atol=FLOAT64_SUMS)


@pytest.mark.parametrize("in_stride", [1, 2])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 2), (3, 1), (3, 2), (5, 2), (2, 1)])
def test_transposed_convolution_equals_a_loop_over_voxels(size, stride, in_stride):
    coords = random_voxels(90, seed=size + 10 * stride, stride=in_stride)
    fine = SparseTensor(torch.ones(len(coords), 1, dtype=torch.float64), coords, stride=in_stride)
    torch.manual_seed(0)
    down = SparseConv3d(1, 3, 2, stride).double() if stride > 1 else SparseConv3d(1, 3, 1).double()
    layer = SparseConvTranspose3d(3, 4, size, stride, bias=True).double()
    coarse = down(fine)
    features = torch.randn(len(coarse), 3, dtype=torch.float64, requires_grad=True)
    out = layer(coarse.with_features(features))
    assert out.stride == in_stride
    assert torch.equal(out.coords, coords)
    in_cells, out_cells = cells_of(coarse.coords), cells_of(coords)
    slices = layer.kernel if layer.kernel.dim() == 3 else layer.kernel[None]
    rows = [features.new_zeros(4) for _ in out_cells]
    # out[v + d(k)] += in[v] W[k]: the pairs of a convolution, seen from the other side
    for v, k, u in loop_pairs(out_cells, in_cells, size, in_stride):
        rows[u] = rows[u] + features[v] @ slices[k]
    leaves = (features, *layer.parameters())
    for have, wanted in zip(
        with_gradients(out.features, *leaves),
        with_gradients(torch.stack(rows) + layer.bias, *leaves),
        strict=True,
    ):
        torch.testing.assert_close(have, wanted, rtol=0, atol=FLOAT64_SUMS)


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(2, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2)]
)
def test_pooling_equals_a_loop_over_voxels(size, stride, dilation):
    coords = random_voxels(110, seed=5)
    features = torch.randn(len(coords), 3, dtype=torch.float64, requires_grad=True)
    for layer, reduce in (
        (SparseAvgPool3d(size, stride, dilation), lambda below: below.mean(dim=0)),
        (SparseMaxPool3d(size, stride, dilation), lambda below: below.amax(dim=0)),
    ):
        out = layer(SparseTensor(features, coords))
        below: list[list[int]] = [[] for _ in range(len(out))]
        for o, _, i in loop_pairs(cells_of(coords), cells_of(out.coords), size, dilation):
            below[o].append(i)
        want = torch.stack([reduce(features[rows]) for rows in below])
        for have, wanted in zip(
            with_gradients(out.features, features), with_gradients(want, features), strict=True
        ):
            torch.testing.assert_close(have, wanted, rtol=0, atol=FLOAT64_SUMS)


@pytest.mark.parametrize(
    "layer",
    [
        SparseConv3d(2, 3, 3, bias=True),
        SparseConv3d(2, 3, 2, stride=2),
        SparseConv3d(2, 3, 3, stride=2, dilation=2),
        SparseConv3d(2, 3, 1),
    ],
    ids=str,
)
def test_gradcheck(layer):
    layer = layer.double()
    coords = random_voxels(20, seed=1, spread=2)
    x = SparseTensor(torch.zeros(20, 2, dtype=torch.float64), coords)

    def run(features: Tensor, *parameters: Tensor) -> Tensor:
        names = [name for name, _ in layer.named_parameters()]
        state = dict(zip(names, parameters, strict=True))
        made = x.with_features(features)
        return torch.func.functional_call(layer, state, (made,)).features

    features = torch.randn(20, 2, dtype=torch.float64, requires_grad=True)
    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (features, *parameters))


def test_gradcheck_of_the_transposed_convolution():
    layer = SparseConvTranspose3d(2, 3, bias=True).double()
    fine = SparseTensor(torch.zeros(20, 1, dtype=torch.float64), random_voxels(20, 1, spread=2))
    coarse = SparseConv3d(1, 2, 2, stride=2).double()(fine)

    def run(features: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        state = {"kernel": kernel, "bias": bias}
        made = coarse.with_features(features)
        return torch.func.functional_call(layer, state, (made,)).features

    features = torch.randn(len(coarse), 2, dtype=torch.float64, requires_grad=True)
    leaves = [p.detach().clone().requires_grad_() for p in (layer.kernel, layer.bias)]
    assert torch.autograd.gradcheck(run, (features, *leaves))


def kernel_map_with_values(
    size: int, stride: int, *, swapped: bool, channels: tuple[int, int], turn: GridSymmetry | None
) -> tuple[KernelMap, Tensor, Tensor, Tensor]:
    """A kernel map with features, a kernel and an upstream gradient in float64."""
    maps = CoordinateManager(random_voxels(700, seed=3, spread=6))
    pairs = (maps if turn is None else maps.transformed(turn)).kernel_map(1, stride, size)
    pairs = pairs.transposed if swapped else pairs
    generator = torch.Generator().manual_seed(0)
    shapes = (
        (pairs.n_source, channels[0]),
        (size**3, *channels),
        (pairs.n_target, channels[1]),
    )
    features, kernel, upstream = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes
    )
    return pairs, features, kernel, upstream


@pytest.fixture
def threads() -> Iterator[None]:
    """Whatever a test does to torch's number of threads is undone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


EVERY_PATH = pytest.mark.parametrize(
    ("size", "stride", "swapped", "turn"),
    [
        (3, 1, False, None),
        (5, 1, False, None),
        (3, 1, True, GridSymmetry((1, 0, 2), (True, False, False))),
        (2, 2, False, GridSymmetry((1, 0, 2), (True, True, False))),
        (2, 2, True, None),
        (2, 2, True, GridSymmetry((1, 0, 2), (False, True, False))),
        (3, 2, False, None),
        (3, 2, True, None),
    ],
    ids=str,
)


@EVERY_PATH
@pytest.mark.parametrize(
    "channels", [(3, 20), (20, 3), (12, 20), (1, 1), (17, 16), (9, 33), (200, 7)], ids=str
)
def test_both_ways_give_the_same(size, stride, swapped, turn, channels):
    """One dense product, the way of accelerators, and tiles of pairs, the way of the CPU."""
    pairs, features, kernel, upstream = kernel_map_with_values(
        size, stride, swapped=swapped, channels=channels, turn=turn
    )
    for dtype, close in ((torch.float64, FLOAT64_NORM), (torch.float32, FLOAT32_NORM)):
        few, weights, back = features.to(dtype), kernel.to(dtype), upstream.to(dtype)
        dense = (
            dense_convolution(features, kernel, pairs),
            dense_convolution(upstream, kernel.transpose(1, 2), pairs.transposed),
            dense_kernel_gradient(features, upstream, pairs, torch.float64),
        )
        tiled = (
            cpu_convolution(few, weights, pairs),
            cpu_convolution(back, weights, pairs.transposed, transposed_kernel=True),
            cpu_kernel_gradient(few, back, pairs, dtype),
        )
        for one, other in zip(dense, tiled, strict=True):
            assert other.dtype == dtype
            assert other.is_contiguous()
            assert (one - other.double()).norm() <= close * one.norm()


@EVERY_PATH
def test_blocks_and_threads_do_not_matter(size, stride, swapped, turn, monkeypatch, threads):
    arguments = kernel_map_with_values(size, stride, swapped=swapped, channels=(12, 20), turn=turn)
    pairs, features, kernel, upstream = arguments
    results = []
    for rows, count, space in ((16, 1, 1 << 20), (1 << 15, 1, 1), (64, 3, 1 << 30), (256, 2, 1)):
        torch.set_num_threads(count)
        monkeypatch.setattr(cpu_engine, "MAX_BLOCK", rows)
        monkeypatch.setattr(cpu_engine, "MIN_ROWS_PER_WORKER", rows)
        monkeypatch.setattr(cpu_engine, "MIN_WEIGHTS_PER_WORKER", rows)
        monkeypatch.setattr(cpu_engine, "TOTALS_BYTES", space)
        monkeypatch.setattr(dense_engine, "GATHERED_BYTES", 1000 * rows)
        results.append(
            (
                cpu_convolution(features, kernel, pairs),
                cpu_kernel_gradient(features, upstream, pairs, torch.float64),
                dense_convolution(features, kernel, pairs),
                dense_kernel_gradient(features, upstream, pairs, torch.float64),
            )
        )
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0])
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=FLOAT64_SUMS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_short_numbers_are_taken_in_float32(dtype):
    """2048 + 1 is 2048 in either, so a running sum in the same precision would stop there."""
    ones = SparseTensor(torch.ones(3, 4096, dtype=dtype), random_voxels(3, seed=1))
    layer = SparseConv3d(4096, 1, 1)
    layer.kernel.data.fill_(1)
    assert torch.equal(layer.to(dtype)(ones).features, torch.full((3, 1), 4096.0).to(dtype))


def test_what_is_not_there_is_not_multiplied():
    """A voxel that holds infinity reaches its neighbours alone, and no NaN comes of 0 times it."""
    coords = random_voxels(200, seed=3)
    features = torch.ones(200, 3)
    features[7] = float("inf")
    layer = SparseConv3d(3, 5, 3)
    layer.kernel.data.fill_(1)
    out = layer(SparseTensor(features, coords)).features
    near = (coords[:, 1:] - coords[7, 1:]).abs().amax(dim=1) <= 1
    assert torch.equal(out.isinf().any(dim=1), near & (coords[:, 0] == coords[7, 0]))
    assert not out.isnan().any()


def test_tiles_fill_whole_registers():
    """Whatever the processor, wide and narrow tiles are whole vectors of either precision."""
    assert cpu_kernels.VECTOR_BYTES in (16, 32, 64)
    assert cpu_kernels.HEIGHTS[-1] == 1
    assert list(cpu_kernels.HEIGHTS) == sorted(cpu_kernels.HEIGHTS, reverse=True)


def test_inference_and_learning_give_the_same(threads):
    torch.set_num_threads(2)
    layer = SparseConv3d(12, 12, 3)
    x = SparseTensor(torch.randn(900, 12), random_voxels(900, seed=1, spread=8))
    with torch.inference_mode():
        inferred = layer(x)
    assert inferred.sorted_features.is_inference()
    learned = layer(x)
    assert learned.features.requires_grad
    assert torch.equal(learned.features, inferred.features)


def test_the_same_input_gives_the_same_bits(threads):
    torch.set_num_threads(2)
    layer = SparseConv3d(12, 20, 3)
    x = SparseTensor(torch.randn(900, 12), random_voxels(900, seed=1, spread=8))
    runs = []
    for _ in range(3):
        layer.zero_grad()
        out = layer(x).features
        out.square().sum().backward()
        runs.append((out.detach(), layer.kernel.grad.clone()))
    for run in runs[1:]:
        assert torch.equal(run[0], runs[0][0])
        assert torch.equal(run[1], runs[0][1])


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 80),
    seed=st.integers(0, 2**31 - 1),
    size=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2]),
)
def test_permuting_the_voxels_permutes_the_output(count, seed, size, stride):
    coords = random_voxels(count, seed)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 2, generator=generator)
    order = torch.randperm(count, generator=generator)
    layer = SparseConv3d(2, 3, size, stride)
    out = layer(SparseTensor(features, coords))
    permuted = layer(SparseTensor(features[order], coords[order]))
    if stride == 1:
        assert torch.equal(permuted.coords, out.coords[order])
        assert torch.equal(permuted.features, out.features[order])
    else:
        assert torch.equal(permuted.coords, out.coords)
        assert torch.equal(permuted.features, out.features)


def test_convolution_is_linear_and_local():
    coords = random_voxels(200, seed=8)
    layer = SparseConv3d(2, 3, 3).double()
    x = SparseTensor(torch.randn(200, 2, dtype=torch.float64), coords)
    doubled = layer(x.map(lambda features: 2 * features)).features
    torch.testing.assert_close(doubled, 2 * layer(x).features)
    changed = x.features.clone()
    changed[0] += 1
    moved = (layer(x.with_features(changed)).features - layer(x).features).abs().sum(dim=1) > 1e-9
    near = (coords[:, 1:] - coords[0, 1:]).abs().amax(dim=1) <= 1
    assert torch.equal(moved, near & (coords[:, 0] == coords[0, 0]))


def test_inputs_are_not_changed():
    coords = random_voxels(100, seed=9)
    features = torch.randn(100, 2)
    before = coords.clone(), features.clone()
    layer = SparseConv3d(2, 3, 3, stride=2)
    layer(SparseTensor(features, coords))
    assert torch.equal(coords, before[0])
    assert torch.equal(features, before[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, 3), "in_channels is 0"),
        ((3, 3, 0), "kernel_size is 0"),
        ((3, 3, 3, 0), "stride is 0"),
        ((3, 3, 3, 1, -1), "dilation is -1"),
    ],
)
def test_impossible_layers_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SparseConv3d(*arguments)


def test_a_transposed_convolution_needs_the_finer_voxels():
    coords = random_voxels(30, seed=1, stride=2)
    x = SparseTensor(torch.ones(30, 2), coords, stride=2)
    with pytest.raises(ValueError, match="there are no voxels of stride 1; known strides are"):
        SparseConvTranspose3d(2, 3)(x)
    with pytest.raises(ValueError, match="of stride 3 cannot refine voxels of stride 2"):
        SparseConvTranspose3d(2, 3, 3, 3)(x)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_pointwise_layer_answers_in_the_given_order(shuffled):
    layer = SparseConv3d(3, 5, 1, bias=True).double()
    coords = random_voxels(700, seed=1)
    if not shuffled:
        coords = SparseTensor(torch.ones(700, 3), coords).maps.level(1).coords
    upstream = torch.randn(700, 5, dtype=torch.float64)
    outcomes = []
    for answer in (layer.forward_features, lambda x: layer(x).features):
        layer.zero_grad()
        generator = torch.Generator().manual_seed(3)
        features = torch.randn(700, 3, dtype=torch.float64, generator=generator).requires_grad_()
        x = SparseTensor(features, coords)
        assert (x.rows is not None) == shuffled
        out = answer(x)
        out.backward(upstream)
        outcomes.append((out, features.grad, layer.kernel.grad, layer.bias.grad))
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_SUMS)


def test_only_a_pointwise_layer_answers_in_the_given_order():
    x = SparseTensor(torch.randn(50, 3), random_voxels(50, seed=1))
    with pytest.raises(ValueError, match="a kernel of size 3 and stride 1 needs voxels, not rows"):
        SparseConv3d(3, 5, 3).forward_features(x)


def test_wrong_channels_are_refused():
    x = SparseTensor(torch.ones(30, 2), random_voxels(30, seed=1))
    with pytest.raises(ValueError, match="the input has 2 channels, this layer takes 4"):
        SparseConv3d(4, 3, 3)(x)


@pytest.mark.gpu
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (2, 2), (5, 1)])
def test_cuda_equals_cpu(size, stride):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    coords = random_voxels(2000, seed=2, spread=8)
    features = torch.randn(2000, 8, dtype=torch.float64)
    layer = SparseConv3d(8, 16, size, stride).double()
    here = layer(SparseTensor(features, coords))
    here.features.square().sum().backward()
    grad = layer.kernel.grad.clone()
    layer.zero_grad()
    layer.cuda()
    there = layer(SparseTensor(features.cuda(), coords.cuda()))
    there.features.square().sum().backward()
    assert torch.equal(here.coords, there.coords.cpu())
    torch.testing.assert_close(there.features.cpu(), here.features)
    torch.testing.assert_close(layer.kernel.grad.cpu(), grad)


NARROWER = """
import torch
from pcdistill.sparse.engines import cpu_kernels
from tests.sparse.test_convolution import FLOAT32_NORM, kernel_map_with_values
from pcdistill.sparse.engines.cpu_engine import cpu_convolution, cpu_kernel_gradient
from pcdistill.sparse.engines.dense_engine import dense_convolution, dense_kernel_gradient

pairs, *values = kernel_map_with_values(3, 1, swapped=False, channels=(9, 33), turn=None)
features, kernel, upstream = (part.float() for part in values)
both = (
    (cpu_convolution(features, kernel, pairs), dense_convolution(values[0], values[1], pairs)),
    (
        cpu_kernel_gradient(features, upstream, pairs, torch.float32),
        dense_kernel_gradient(values[0], values[2], pairs, torch.float64),
    ),
)
errors = [float((one - other).norm() / other.norm()) for one, other in both]
close = max(errors) < FLOAT32_NORM
print(cpu_kernels.VECTOR_BYTES, cpu_kernels.HEIGHTS[0], cpu_kernels.HAS_BFLOAT16, close)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "expected"), [("avx2", "32 6"), ("scalar", "16 8")])
def test_processors_with_narrower_registers(name, expected):
    done = subprocess.run(
        [sys.executable, "-c", NARROWER],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **HIDDEN[name]},
    )
    narrowest = "16 8"  # a processor without AVX2 has nothing wider
    assert done.stdout.strip() in {f"{wide} False True" for wide in (expected, narrowest)}, (
        done.stderr
    )
