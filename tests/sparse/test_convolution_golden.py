"""Every operator equals the reference, forward and backward, in double and single precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.sparse import (
    SparseAvgPool3d,
    SparseBatchNorm,
    SparseConv3d,
    SparseConvTranspose3d,
    SparseMaxPool3d,
    SparseTensor,
)
from pcdistill.sparse.kernel_map import kernel_offsets
from tests.conftest import golden_cases, load_npz
from tests.tolerances import FLOAT32_SUMS

FLOAT64 = 1e-10  # absolute; the fixtures' *_f64 runs
FLOAT32_OUTPUT = 1e-5  # absolute, values are O(1)
FLOAT32_KERNEL = 1e-4  # of the largest entry


def rows_by_coordinate(have: Tensor, want: np.ndarray) -> Tensor:
    """Index that brings rows of `have` into the order of `want`."""
    row = {tuple(coord): i for i, coord in enumerate(have.tolist())}
    assert len(row) == len(want) == len(have)
    return torch.tensor([row[tuple(coord)] for coord in want.tolist()], dtype=torch.int64)


def kernel_size_of(case: dict[str, np.ndarray]) -> int:
    return 1 if case["kernel"].ndim == 2 else round(len(case["kernel"]) ** (1 / 3))


def check(
    case: dict[str, np.ndarray],
    dtype: torch.dtype,
    layer: torch.nn.Module,
    x: SparseTensor,
    features: Tensor,
) -> None:
    suffix = "_f64" if dtype == torch.float64 else ""
    out = layer(x)
    index = rows_by_coordinate(out.coords, case["out_coords"])
    assert out.stride == int(case["out_tensor_stride"][0])
    result = out.features[index]
    (result * torch.from_numpy(case["grad_out"]).to(dtype)).sum().backward()
    tolerance = FLOAT64 if suffix else FLOAT32_OUTPUT
    compare = [(result.detach(), "out_feats"), (features.grad, "grad_in_feats")]
    for array, name in compare:
        want = torch.from_numpy(case[name + suffix])
        torch.testing.assert_close(array, want, rtol=0, atol=tolerance)
    for name, parameter in layer.named_parameters():
        want = torch.from_numpy(case[f"grad_{name}{suffix}"])
        atol = FLOAT64 if suffix else FLOAT32_KERNEL * float(want.abs().max())
        torch.testing.assert_close(parameter.grad, want, rtol=0, atol=atol)


def load_parameters(layer: torch.nn.Module, case: dict[str, np.ndarray]) -> torch.nn.Module:
    state = {name: torch.from_numpy(case[name]) for name, _ in layer.named_parameters()}
    layer.load_state_dict(state)
    return layer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("sparse_conv/conv_*.npz"))
def test_convolution_equals_the_reference(file, dtype):
    case = load_npz(file)
    features = torch.from_numpy(case["in_feats"]).to(dtype).requires_grad_()
    in_stride, out_stride = (int(case[f"{end}_tensor_stride"][0]) for end in ("in", "out"))
    dilation = int(file.stem.split("_d")[1][0]) if "_d" in file.stem else 1
    size = (case["in_feats"].shape[1], case["out_feats"].shape[1])
    layer = SparseConv3d(
        *size, kernel_size_of(case), out_stride // in_stride, dilation, bias="bias" in case
    )
    layer = load_parameters(layer, case).to(dtype)
    x = SparseTensor(features, torch.from_numpy(case["in_coords"]), stride=in_stride)
    check(case, dtype, layer, x, features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("sparse_conv/convtr_*.npz"))
def test_transposed_convolution_equals_the_reference(file, dtype):
    case = load_npz(file)
    fine_stride, in_stride = (int(case[f"{end}_tensor_stride"][0]) for end in ("fine", "in"))
    fine_coords = torch.from_numpy(case["fine_coords"])
    fine = SparseTensor(torch.ones(len(fine_coords), 1, dtype=dtype), fine_coords, fine_stride)
    features = torch.from_numpy(case["in_feats"]).to(dtype).requires_grad_()
    x = SparseTensor(features, torch.from_numpy(case["in_coords"]), in_stride, maps=fine.maps)
    size = (case["in_feats"].shape[1], case["out_feats"].shape[1])
    layer = SparseConvTranspose3d(
        *size, kernel_size_of(case), in_stride // fine_stride, bias="bias" in case
    )
    layer = load_parameters(layer, case).to(dtype)
    assert torch.equal(layer(x).coords, fine_coords)  # the rows of the earlier fine tensor
    check(case, dtype, layer, x, features)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("file", golden_cases("sparse_conv/pool_*.npz"))
def test_pooling_equals_the_reference(file, dtype):
    case = load_npz(file)
    features = torch.from_numpy(case["in_feats"]).to(dtype).requires_grad_()
    _, kind, kernel, stride = file.stem.split("_")[:4]
    layer = {"avg": SparseAvgPool3d, "max": SparseMaxPool3d}[kind](int(kernel[1:]), int(stride[1:]))
    in_stride = int(case["in_tensor_stride"][0])
    x = SparseTensor(features, torch.from_numpy(case["in_coords"]), stride=in_stride)
    check(case, dtype, layer, x, features)


@pytest.mark.parametrize("file", golden_cases("sparse_conv/batch_norm*.npz"))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_batch_norm_equals_the_reference(file, mode):
    case = load_npz(file)
    layer = SparseBatchNorm(
        case["feats"].shape[1], eps=float(case["eps"]), momentum=float(case["momentum"])
    )
    names = ("weight", "bias", "running_mean", "running_var")
    layer.load_state_dict(
        {f"bn.{name}": torch.from_numpy(case[name]) for name in names}
        | {"bn.num_batches_tracked": torch.tensor(0)}
    )
    layer.train(mode == "train")
    features = torch.from_numpy(case["feats"]).requires_grad_()
    out = layer(SparseTensor(features, torch.from_numpy(case["coords"]))).features
    (out * torch.from_numpy(case["grad_out"])).sum().backward()
    have = {"out": out, "grad_feats": features.grad}
    have |= {"grad_weight": layer.bn.weight.grad, "grad_bias": layer.bn.bias.grad}
    for name, array in have.items():
        want = torch.from_numpy(case[f"{mode}_{name}"])
        largest = float(want.abs().max())  # sums over all rows: their order is not the reference's
        torch.testing.assert_close(
            array.detach(), want, rtol=0, atol=FLOAT32_SUMS * max(1.0, largest)
        )
    if mode == "train":
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            want = torch.from_numpy(np.asarray(case[f"{name}_after"]))
            have_buffer = getattr(layer.bn, name)
            torch.testing.assert_close(have_buffer, want.to(have_buffer.dtype))


@pytest.mark.parametrize("file", golden_cases("sparse_conv/kernel_offsets.npz"))
def test_kernel_slices_are_ordered_as_in_the_reference(file):
    for name, want in load_npz(file).items():
        parts = name.split("_")
        size = int(next(part for part in parts if part[0] == "k")[1:])
        stride = int(parts[-1][2:]) if parts[-1].startswith("ts") else 1
        have = np.array(kernel_offsets(size)) * stride
        np.testing.assert_array_equal(have, want, err_msg=name)
