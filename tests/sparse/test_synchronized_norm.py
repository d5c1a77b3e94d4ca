"""Batch norm over several processes is the batch norm of all their rows together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from pcdistill.networks import build_student
from pcdistill.sparse import SparseBatchNorm, SparseTensor, synchronize_batch_norms
from pcdistill.sparse.synchronized_norm import synchronized_batch_norm

ROUNDING = 1e-12
"""Of sums of some hundred numbers near 1 in float64."""
CHANNELS = 5


class Meeting:
    """Threads that sum tensors, as processes do."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=30)
        self._given: list[Tensor] = []
        self._lock = threading.Lock()

    def add(self, tensor: Tensor) -> Tensor:
        with self._lock:
            self._given.append(tensor.clone())
        self._barrier.wait()
        tensor.copy_(torch.stack(self._given).sum(dim=0))
        if self._barrier.wait() == 0:
            self._given.clear()
        self._barrier.wait()
        return tensor


def norm() -> nn.BatchNorm1d:
    bn = nn.BatchNorm1d(CHANNELS, dtype=torch.float64)
    with torch.no_grad():
        bn.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        bn.bias.copy_(torch.linspace(-1, 1, CHANNELS))
        bn.running_mean.copy_(torch.linspace(-3, 3, CHANNELS))
        bn.running_var.copy_(torch.linspace(0.3, 2, CHANNELS))
    return bn


def rows(count: int) -> tuple[Tensor, Tensor]:
    """Values far from zero and a gradient of the result."""
    generator = torch.Generator().manual_seed(count)
    draw = torch.randn(2, count, CHANNELS, generator=generator, dtype=torch.float64)
    return 3 * draw[0] + 20, draw[1]


@pytest.mark.parametrize("sizes", [(40,), (30, 17), (1, 1), (25, 0), (3, 20, 8)], ids=str)
def test_values_gradients_and_statistics_are_those_of_all_rows(sizes):
    x, upstream = rows(sum(sizes))
    whole, expected = norm(), x.clone().requires_grad_()
    out = whole(expected)
    out.backward(upstream)
    meeting = Meeting(len(sizes))

    def one(part: Tensor, gradient: Tensor) -> tuple[nn.BatchNorm1d, Tensor, Tensor]:
        bn, given = norm(), part.clone().requires_grad_()
        found = synchronized_batch_norm(given, bn, meeting.add)
        found.backward(gradient)
        return bn, found.detach(), given.grad

    with ThreadPoolExecutor(len(sizes)) as pool:
        parts = list(pool.map(one, x.split(sizes), upstream.split(sizes)))

    def close(found: Tensor, wanted: Tensor) -> None:
        torch.testing.assert_close(found, wanted, rtol=ROUNDING, atol=ROUNDING)

    close(torch.cat([part[1] for part in parts]), out.detach())
    close(torch.cat([part[2] for part in parts]), expected.grad)
    close(sum(part[0].weight.grad for part in parts), whole.weight.grad)
    close(sum(part[0].bias.grad for part in parts), whole.bias.grad)
    for bn, _, _ in parts:
        close(bn.running_mean, whole.running_mean)
        close(bn.running_var, whole.running_var)
        assert bn.num_batches_tracked == 1


@pytest.mark.parametrize("size", [0, 1])
def test_no_row_or_one_leaves_the_running_statistics(size):
    x, upstream = rows(size)
    bn, given = norm(), x.clone().requires_grad_()
    found = synchronized_batch_norm(given, bn, lambda tensor: tensor)
    found.backward(upstream)
    slope = bn.weight.detach() * torch.rsqrt(bn.running_var + bn.eps)
    torch.testing.assert_close(found.detach(), (x - norm().running_mean) * slope + bn.bias.detach())
    torch.testing.assert_close(given.grad, upstream * slope)
    assert torch.equal(bn.running_mean, norm().running_mean)
    assert torch.equal(bn.running_var, norm().running_var)
    assert bn.num_batches_tracked == 0


def test_half_precision_keeps_its_type():
    x = rows(40)[0].bfloat16().requires_grad_()
    bn = norm().float()
    found = synchronized_batch_norm(x, bn, lambda tensor: tensor)
    found.sum().backward()
    assert found.dtype == x.grad.dtype == torch.bfloat16
    close = norm().float()(x.detach().float())
    torch.testing.assert_close(found.detach().float(), close.detach(), rtol=2**-7, atol=2**-7)


def test_residual_relu_and_skip_come_after_the_norm():
    x, other = rows(12)
    coords = torch.arange(48, dtype=torch.int32).view(12, 4)
    coords[:, 0] = 0
    layer = SparseBatchNorm(CHANNELS).double()
    layer.bn = norm()
    tensor = SparseTensor(x, coords)
    with torch.no_grad():
        expected = layer(tensor, residual=tensor.with_sorted(other), relu=True, skip=tensor)
        layer.bn = norm()
        synchronize_batch_norms(layer, lambda tensor: tensor)
        found = layer(tensor, residual=tensor.with_sorted(other), relu=True, skip=tensor)
    torch.testing.assert_close(found.features, expected.features)


def test_every_norm_of_a_network_meets_and_none_in_evaluation():
    network = build_student("MinkUNet14A", 3, 4, width=0.125)
    met = []
    synchronize_batch_norms(network, lambda tensor: (met.append(1), tensor)[1])
    tensor = SparseTensor(torch.ones(0, 3), torch.zeros(0, 4, dtype=torch.int32))
    network.eval()(tensor)
    assert not met
    network.train()(tensor).sum().backward()
    assert len(met) == 2 * sum(isinstance(m, SparseBatchNorm) for m in network.modules())
