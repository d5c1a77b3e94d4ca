"""Voxels as if the grid had been turned: the kernel changes, the maps stay."""

from __future__ import annotations

import pytest
import torch

from pcdistill.networks import build_student
from pcdistill.sparse import CoordinateManager, GridSymmetry, SparseConv3d, SparseTensor
from tests.networks.test_mink_unet import surface
from tests.tolerances import FLOAT64

TURNS = [
    GridSymmetry(),
    GridSymmetry((1, 0, 2), (True, False, False)),
    GridSymmetry((0, 1, 2), (True, True, False)),
    GridSymmetry((2, 0, 1), (False, True, True)),
]


def turned_coords(turn: GridSymmetry, coords: torch.Tensor) -> torch.Tensor:
    return torch.cat([coords[:, :1], turn.cells(coords[:, 1:])], dim=1)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_network_on_turned_maps_equals_one_on_turned_voxels(turn):
    coords = surface(3)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(coords), 3, generator=generator, dtype=torch.float64)
    network = build_student("MinkUNet14A", 3, 5, width=0.125, generator=generator).double()

    def results(x: SparseTensor) -> list[torch.Tensor]:
        network.zero_grad()
        out = network(x)
        out.square().sum().backward()
        return [out.detach(), *(p.grad.clone() for p in network.parameters())]

    expected = results(SparseTensor(features, turned_coords(turn, coords)))
    maps = CoordinateManager(coords)
    found = results(SparseTensor(features, coords, maps=maps.transformed(turn)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=FLOAT64, atol=FLOAT64)


def test_turned_maps_search_nothing_again():
    coords = surface(1)
    maps = CoordinateManager(coords)
    pairs = maps.kernel_map(1, 1, 3)
    for turn in TURNS:
        assert maps.transformed(turn).kernel_map(1, 1, 3).table is pairs.table
    later = maps.transformed(TURNS[1]).kernel_map(1, 2, 2)
    assert maps.kernel_map(1, 2, 2).table is later.table
    assert maps.nbytes > 0


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_placed_voxels_are_those_of_the_turned_grid(turn):
    """At every stride: the coarse voxels of turned voxels are the turned coarse voxels."""
    coords = surface(3)
    there = CoordinateManager(turned_coords(turn, coords))
    maps = CoordinateManager(coords).transformed(turn)
    for stride in (1, 2, 8):
        found = maps.transformed_level(stride).coords
        assert {tuple(row) for row in found.tolist()} == {
            tuple(row) for row in there.level(stride).coords.tolist()
        }


def test_a_strided_odd_kernel_cannot_be_mirrored():
    coords = surface(1)
    layer = SparseConv3d(2, 2, 3, stride=2)
    maps = CoordinateManager(coords).transformed(TURNS[1])
    x = SparseTensor(torch.ones(len(coords), 2), coords, maps=maps)
    with pytest.raises(ValueError, match="size 3 and stride 2 cannot be mirrored"):
        layer(x)


def test_directions_turn_as_cells_do():
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    for turn in TURNS:
        after = turn.cells(cells)
        steps = (after[1:] - after[0]).double()
        torch.testing.assert_close(steps, turn.matrix().T)


@pytest.mark.parametrize("stride", [1, 2])
def test_filled_up_rows_change_nothing_in_bfloat16(stride):
    """16-bit products work on rows filled up to few heights; what fills must not be counted."""
    coords = surface(5)
    generator = torch.Generator().manual_seed(1)
    layer = SparseConv3d(16, 24, 3 if stride == 1 else 2, stride=stride)
    layer.reset_parameters(generator)
    features = torch.randn(len(coords), 16, generator=generator)
    features[0] = 1e4  # the row that fills
    outcomes = []
    for dtype in (torch.bfloat16, torch.float64):
        layer = layer.to(dtype)
        layer.kernel.data.copy_(layer.kernel.data.bfloat16())
        layer.zero_grad()
        x = features.bfloat16().to(dtype).requires_grad_()
        out = layer(SparseTensor(x, coords)).sorted_features
        (out.double() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        outcomes.append([t.detach().double() for t in (out, x.grad, layer.kernel.grad)])
    for low, exact in zip(*outcomes, strict=True):
        error = (low - exact).norm() / exact.norm()
        assert error < 1e-2


def test_pointwise_products_of_any_height_agree_in_bfloat16():
    layer = SparseConv3d(8, 12, 1)
    for rows in (1, 31, 33, 1000):
        x = torch.randn(rows, 8)
        coords = torch.stack(
            [torch.zeros(rows), torch.arange(rows), *torch.zeros(2, rows)], 1
        ).int()
        with torch.autocast("cpu", torch.bfloat16):
            low = layer(SparseTensor(x, coords)).features
        assert low.shape == (rows, 12)
        torch.testing.assert_close(
            # bfloat16 has 8 bits: 0.4 % a product, through a sum of hundreds
            low.float(),
            layer(SparseTensor(x, coords)).features,
            rtol=0.05,
            atol=0.05,
        )
