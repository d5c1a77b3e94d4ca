"""What a student network is, without fixtures."""

from __future__ import annotations

import math

import pytest
import torch

from pcdistill.errors import ConfigError
from pcdistill.networks import LAYERS, PLANES, build_student
from pcdistill.sparse import SparseConvTranspose3d, SparseTensor
from tests.tolerances import FLOAT32_SUMS


def surface(seed: int, batches: int = 2, size: int = 24) -> torch.Tensor:
    """Voxels of wavy sheets, of both signs, in no particular order."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.meshgrid(*2 * [torch.arange(-size // 2, size // 2)], indexing="ij")
    z = (4 * torch.sin(x / 5.0) + 3 * torch.cos(y / 3.0)).round().to(x.dtype)
    sheet = torch.stack((x, y, z), dim=-1).reshape(-1, 3)
    parts = [
        torch.cat((torch.full((len(sheet), 1), batch), sheet + 3 * batch), dim=1)
        for batch in range(batches)
    ]
    coords = torch.cat(parts).to(torch.int32)
    return coords[torch.randperm(len(coords), generator=generator)]


def small(**sizes) -> torch.nn.Module:
    sizes = {"width": 0.25, "generator": torch.Generator().manual_seed(0)} | sizes
    return build_student("MinkUNet14A", 3, 8, **sizes)


def test_output_rows_follow_the_input_rows():
    coords = surface(1)
    features = torch.rand(len(coords), 3, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(3))
    for training in (True, False):
        network = small().train(training)
        out = network(SparseTensor(features, coords))
        permuted = network(SparseTensor(features[order], coords[order]))
        assert torch.equal(permuted, out[order])  # the same bits: inside, rows are sorted


def test_the_same_input_gives_the_same_bits():
    coords = surface(4)
    results = []
    for _ in range(2):
        network = small().train()
        out = network(SparseTensor(torch.ones(len(coords), 3), coords))
        out.square().sum().backward()
        results.append([out, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_scenes_of_a_batch_do_not_touch_each_other():
    coords = surface(5)
    network = small().eval()
    with torch.no_grad():
        together = network(SparseTensor(torch.ones(len(coords), 3), coords))
        for batch in (0, 1):
            mine = coords[:, 0] == batch
            alone = network(SparseTensor(torch.ones(int(mine.sum()), 3), coords[mine]))
            torch.testing.assert_close(together[mine], alone, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)


def test_shifting_a_scene_by_the_coarsest_stride_changes_nothing():
    coords = surface(6, batches=1)
    shifted = coords + torch.tensor([0, 16 * 9, -16 * 400, 16], dtype=torch.int32)
    network = small().eval()
    with torch.no_grad():
        ones = torch.ones(len(coords), 3)
        there, here = network(SparseTensor(ones, shifted)), network(SparseTensor(ones, coords))
    assert torch.equal(there, here)


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_without_voxels_gives_no_rows(training):
    network = small().train(training)
    empty = SparseTensor(torch.ones(0, 3), torch.zeros(0, 4, dtype=torch.int32))
    out = network(empty)
    assert out.shape == (0, 8)
    out.sum().backward()
    assert int(network.bn0.bn.num_batches_tracked) == 0


def test_width_scales_all_inner_channels():
    half = build_student("MinkUNet18A", 3, 64, width=0.5).architecture
    assert half.planes == (16, 32, 64, 128, 64, 64, 48, 48)
    assert (half.stem_channels, half.out_channels) == (16, 64)
    for name in PLANES:
        full = build_student(name, 3, 512, width=1.0).architecture
        assert (full.planes, full.layers, full.stem_channels) == (PLANES[name], LAYERS[name], 32)


def test_fresh_weights_follow_the_reference_laws():
    network = build_student("MinkUNet14A", generator=torch.Generator().manual_seed(3))
    for name, kernel in network.named_parameters():
        if not name.endswith("kernel"):
            continue
        module = network.get_submodule(name.removesuffix(".kernel"))
        n_offsets, channels = (1, kernel.shape[1]) if kernel.dim() == 2 else kernel.shape[::2]
        if isinstance(module, SparseConvTranspose3d):
            bound = 1 / math.sqrt(n_offsets * channels)
            assert 0.99 * bound < float(kernel.detach().abs().max()) <= bound
        else:
            fan = kernel.shape[0] if kernel.dim() == 2 else n_offsets * channels
            relative_error = 5 / math.sqrt(2 * kernel.numel())
            assert abs(float(kernel.detach().std()) * math.sqrt(fan / 2) - 1) < relative_error, name


def test_weights_come_from_the_generator():
    weights = [
        build_student("MinkUNet14A", 3, 8, width=0.25, generator=torch.Generator().manual_seed(s))
        .conv0p1s1.kernel.detach()
        .clone()
        for s in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "MinkUnet18"}, r"unknown student architecture 'MinkUnet18'.*MinkUNet18A"),
        ({"architecture": "resnet"}, r"unknown student architecture 'resnet'"),
        ({"width": 0.0}, r"width is 0\.0, expected more than 0"),
        ({"planes": [8, 8]}, r"planes of MinkUNet18A is \(8, 8\), expected 8"),
        ({"layers": [1, 1, 1, 1, 1, 1, 1, 0]}, r"layers of MinkUNet18A"),
        ({"out_channels": 0}, r"out_channels of MinkUNet18A is 0"),
    ],
)
def test_unknown_sizes_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_student(**arguments)


def test_another_number_of_input_channels_is_refused():
    with pytest.raises(ValueError, match="the input has 5 channels, this layer takes 3"):
        small()(SparseTensor(torch.ones(2, 5), torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])))


def test_mixed_precision_stays_close():
    coords = surface(7)
    network = small().eval()
    with torch.no_grad():
        exact = network(SparseTensor(torch.ones(len(coords), 3), coords))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(SparseTensor(torch.ones(len(coords), 3), coords))
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).norm() / exact.norm()) < 0.05


def test_mixed_precision_gives_single_precision_gradients():
    coords = surface(8)
    network = small().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(SparseTensor(torch.ones(len(coords), 3), coords))
    out.float().square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())
