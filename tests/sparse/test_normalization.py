"""Batch norm with what follows it: by compiled loops, by torch, of few voxels and of none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.sparse import SparseBatchNorm, SparseTensor


def voxels(count: int) -> SparseTensor:
    coords = torch.zeros(count, 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(count)
    return SparseTensor(torch.arange(3.0 * count).view(count, 3), coords)


def test_a_single_voxel_is_normalized_by_what_was_seen_before():
    norm = SparseBatchNorm(3).train()
    norm(voxels(5))
    mean, variance = norm.bn.running_mean.clone(), norm.bn.running_var.clone()
    alone = voxels(1)
    found = norm(alone).features
    expected = (alone.features - mean) / (variance + norm.bn.eps).sqrt()
    torch.testing.assert_close(found, expected)
    assert torch.equal(norm.bn.running_mean, mean)
    torch.testing.assert_close(norm.eval()(alone).features, expected)


def test_no_voxel_changes_nothing():
    norm = SparseBatchNorm(3).train()
    assert len(norm(voxels(0))) == 0
    assert torch.equal(norm.bn.running_mean, torch.zeros(3))


def test_features_that_are_no_longer_needed_are_overwritten():
    torch.manual_seed(0)
    norm = SparseBatchNorm(3).train()
    for _ in range(3):
        norm(voxels(9))
    torch.nn.init.normal_(norm.bn.weight)
    torch.nn.init.normal_(norm.bn.bias)
    norm.eval()
    x = voxels(7)
    expected, before = norm(x), x.sorted_features.clone()
    assert torch.equal(x.sorted_features, before)
    with torch.no_grad():
        found = norm(x, inplace=True)
    torch.testing.assert_close(found.features, expected.features)
    assert found.sorted_features.data_ptr() == x.sorted_features.data_ptr()


def test_nothing_is_overwritten_where_gradients_are_wanted():
    for norm in (SparseBatchNorm(3).train(), SparseBatchNorm(3).eval()):
        x = voxels(7)
        before = x.sorted_features.clone()
        norm(x, inplace=True)
        assert torch.equal(x.sorted_features, before)


def test_half_precision_is_normalized_in_full():
    norm = SparseBatchNorm(3).eval()
    norm.bn.running_mean.fill_(300.0)
    x = voxels(120).map(lambda features: features.bfloat16())
    expected = ((x.features.double() - 300) / (1 + norm.bn.eps) ** 0.5).bfloat16()
    with torch.no_grad():
        found = norm(x, inplace=True)
    assert torch.equal(found.features, expected)


def by_torch(
    norm: SparseBatchNorm,
    x: Tensor,
    residual: Tensor | None = None,
    skip: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The readable twin: torch's own operations."""
    bn = norm.bn
    out = functional.batch_norm(
        x, bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.training, bn.momentum, bn.eps
    )
    out = out if residual is None else out + residual
    out = out.relu() if relu else out
    return out if skip is None else torch.cat((out, skip), dim=1)


def norm_with_weights(channels: int, dtype: torch.dtype) -> SparseBatchNorm:
    norm = SparseBatchNorm(channels).to(dtype)
    for part in (norm.bn.weight, norm.bn.bias, norm.bn.running_mean):
        torch.nn.init.normal_(part)
    torch.nn.init.uniform_(norm.bn.running_var, 0.5, 2)
    return norm


def large(channels: int, dtype: torch.dtype, mean: float) -> dict[str, SparseTensor]:
    """Tensors of enough voxels for several threads: to normalise, to add, to put beside."""
    coords = torch.zeros(20_000, 4, dtype=torch.int32)
    coords[:, 1] = torch.arange(len(coords))
    x = SparseTensor((torch.randn(len(coords), channels) + mean).to(dtype), coords)
    others = {"residual": channels, "skip": 6}
    made = {name: torch.randn(len(coords), width).to(dtype) for name, width in others.items()}
    return {"x": x, **{name: x.with_sorted(features) for name, features in made.items()}}


def error(one: Tensor, other: Tensor) -> float:
    return float((one.detach().double() - other.detach()).norm() / other.detach().norm())


KINDS_OF_CALL = [(), ("residual",), ("skip",), ("residual", "skip")]


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("given", KINDS_OF_CALL)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-6), (torch.bfloat16, 6e-3)]
)
def test_training_in_one_pass_is_what_torch_does_in_many(dtype, tolerance, given, relu, inplace):
    torch.manual_seed(0)
    exact = norm_with_weights(21, torch.float64).train()
    norm = norm_with_weights(21, torch.promote_types(dtype, torch.float32)).train()
    norm.load_state_dict(exact.state_dict())
    exact.load_state_dict(norm.state_dict())
    before = copy.deepcopy(norm)
    parts = {name: part for name, part in large(21, dtype, 30.0).items() if name in ("x", *given)}
    leaves = {name: part.sorted_features.requires_grad_() for name, part in parts.items()}
    twins = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    others = {name: parts[name] for name in given}

    found = norm(parts["x"], **others, relu=relu, inplace=inplace).sorted_features
    again = before(parts["x"], **others, relu=relu).sorted_features
    assert found.dtype == dtype
    assert torch.equal(found, again)
    upstream = torch.randn_like(found)
    kept = upstream.clone()
    found.backward(upstream)
    assert inplace or torch.equal(upstream, kept)

    expected = by_torch(exact, **twins, relu=relu)
    assert error(found, expected) < tolerance
    # which units ReLU lets through is the result's own, not that of another rounding
    exact_again = copy.deepcopy(exact)
    linear = by_torch(exact_again, **twins)
    passed = torch.ones_like(found, dtype=torch.bool)
    passed[:, :21] = (found[:, :21] > 0) | (not relu)
    gradients = torch.autograd.grad(
        linear * passed, [*twins.values(), *exact_again.parameters()], kept.double()
    )
    ours = [*(leaf.grad for leaf in leaves.values()), *(part.grad for part in norm.parameters())]
    for one, other in zip(ours, gradients, strict=True):
        assert error(one, other) < tolerance
    for seen in ("running_mean", "running_var"):
        assert error(getattr(norm.bn, seen), getattr(exact.bn, seen)) < max(tolerance / 10, 1e-7)
    assert norm.bn.num_batches_tracked == 1


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("given", KINDS_OF_CALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_answering_in_one_pass_is_what_torch_does_in_many(dtype, given, relu):
    torch.manual_seed(1)
    norm = norm_with_weights(5, torch.promote_types(dtype, torch.float32)).eval()
    parts = {name: part for name, part in large(5, dtype, 0.0).items() if name in ("x", *given)}
    others = {name: parts[name] for name in given}
    exact = norm_with_weights(5, torch.float64).eval()
    exact.load_state_dict(norm.state_dict())
    twins = {name: part.features.double() for name, part in parts.items()}
    expected = by_torch(exact, **twins, relu=relu)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    x = parts["x"]
    found = [norm(x, **others, relu=relu)]
    assert found[0].features.requires_grad
    with torch.no_grad():
        found += [norm(x, **others, relu=relu, inplace=inplace) for inplace in (False, True)]
    for one in found:
        assert one.features.dtype == dtype
        assert error(one.features, expected) < tolerance
    assert torch.equal(found[1].features, found[2].features)


def test_one_pass_is_differentiated_exactly():
    torch.manual_seed(2)
    norm = norm_with_weights(4, torch.float64).train()
    x = voxels(9)
    values = [torch.randn(9, n, dtype=torch.float64, requires_grad=True) for n in (4, 4, 2)]

    def whole(
        features: Tensor, residual: Tensor, skip: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        norm.bn.weight, norm.bn.bias = weight, bias
        others = {"residual": x.with_sorted(residual), "skip": x.with_sorted(skip)}
        return norm(x.with_sorted(features), **others, relu=True).sorted_features

    weights = [part.detach().clone().requires_grad_() for part in (norm.bn.weight, norm.bn.bias)]
    del norm.bn.weight, norm.bn.bias
    assert torch.autograd.gradcheck(whole, (*values, *weights))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_what_is_no_number_is_not_hidden(training, relu):
    norm = SparseBatchNorm(3).train(training)
    x = voxels(5)
    x.sorted_features[2, 1] = float("nan")
    with torch.no_grad():
        found = norm(x, relu=relu).sorted_features
    assert found[2, 1].isnan()
    assert not found[:, [0, 2]].isnan().any()


def test_a_constant_channel_of_large_value_stays_finite():
    norm = SparseBatchNorm(3).train()
    x = voxels(1000).map(lambda features: torch.full_like(features, 12345.678))
    found = norm(x).sorted_features
    assert torch.equal(found, torch.zeros_like(found))
    torch.testing.assert_close(norm.bn.running_var, torch.full((3,), 0.9))


def test_other_norms_and_types_are_left_to_torch():
    x = voxels(50)
    norm = SparseBatchNorm(3).train()
    twin = SparseBatchNorm(3).train()
    twin.bn = torch.nn.BatchNorm1d(3, momentum=None)
    norm.bn = type("Watched", (torch.nn.BatchNorm1d,), {})(3, momentum=None)
    for _ in range(3):
        torch.testing.assert_close(norm(x).features, twin(x).features)
    torch.testing.assert_close(norm.bn.running_var, twin.bn.running_var)
    half = SparseBatchNorm(3).half().train()
    short = x.map(torch.Tensor.half)
    found = half(short, relu=True, residual=short, skip=short)
    assert found.features.dtype == torch.float16
    assert found.channels == 6


def test_no_voxel_and_a_single_one_are_joined_too():
    norm = SparseBatchNorm(3).train()
    for count in (0, 1):
        assert norm(voxels(count), residual=voxels(count), skip=voxels(count)).channels == 6
