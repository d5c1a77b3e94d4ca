"""The student on spconv's convolutions, with the weights and batch norms of one of ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdistill.networks import MinkUNet
from pcdistill.sparse import SparseBatchNorm, SparseConv3d, SparseConvTranspose3d

COARSEST = 16
"""spconv's grid is a multiple of the coarsest stride, so that every stride divides it."""


class SpconvNetwork(nn.Module):
    """MinkUNet for one batch of voxels; coordinates must not be negative."""

    def __init__(self, coords: Tensor, network: MinkUNet) -> None:
        super().__init__()
        self.source = network
        self.coords = coords.to(torch.int32)
        self.features = torch.ones(
            len(coords), network.architecture.in_channels, device=coords.device
        )
        extent = coords[:, 1:].amax(dim=0) + 1
        self.grid = [int(-(-side // COARSEST) * COARSEST) for side in extent]
        self.batch = int(coords[:, 0].max()) + 1
        self.layers = nn.ModuleDict()
        strides = {}
        for name, layer in network.named_modules():
            if isinstance(layer, (SparseConv3d, SparseConvTranspose3d)) and not layer.pointwise:
                strides[name] = stride_of(name)
                self.layers[flat(name)] = spconv_layer(layer, strides[name]).to(coords.device)

    def forward(self) -> Tensor:
        """(V, D) features of every voxel."""
        import spconv.pytorch as spconv

        net = self.source
        x = spconv.SparseConvTensor(self.features, self.coords, self.grid, self.batch)
        at1 = self._normed(x, "conv0p1s1", net.bn0)
        at2 = self._stage(self._normed(at1, "conv1p1s2", net.bn1), "block1")
        at4 = self._stage(self._normed(at2, "conv2p2s2", net.bn2), "block2")
        at8 = self._stage(self._normed(at4, "conv3p4s2", net.bn3), "block3")
        out = self._stage(self._normed(at8, "conv4p8s2", net.bn4), "block4")
        for number, (name, skip) in enumerate(
            (
                ("convtr4p16s2", at8),
                ("convtr5p8s2", at4),
                ("convtr6p4s2", at2),
                ("convtr7p2s2", at1),
            )
        ):
            norm = getattr(net, f"bntr{number + 4}")
            out = self._normed(out, name, norm)
            out = out.replace_feature(torch.cat((out.features, skip.features), dim=1))
            out = self._stage(out, f"block{number + 5}")
        features: Tensor = out.features @ net.final.kernel
        return features

    def _normed(self, x: Any, name: str, norm: SparseBatchNorm) -> Any:
        out = self.layers[flat(name)](x)
        return out.replace_feature(functional.relu(norm.bn(out.features)))

    def _stage(self, x: Any, name: str) -> Any:
        for index, block in enumerate(getattr(self.source, name)):
            shortcut = x.features
            if block.downsample is not None:
                conv, norm = block.downsample
                shortcut = norm.bn(shortcut @ conv.kernel)
            out = self._normed(x, f"{name}.{index}.conv1", block.norm1)
            out = self.layers[flat(f"{name}.{index}.conv2")](out)
            features = block.norm2.bn(out.features) + shortcut
            x = out.replace_feature(functional.relu(features))
        return x


def flat(name: str) -> str:
    """A module's name without the dots that a ModuleDict refuses."""
    return name.replace(".", "_")


def stride_of(name: str) -> int:
    """Voxel edge that a layer works on: of its input, of its output where it is transposed."""
    if name.startswith("block"):
        return (2, 4, 8, 16, 8, 4, 2, 1)[int(name[len("block")]) - 1]
    if name.startswith("convtr"):
        return int(name.split("p")[1].split("s")[0]) // 2
    return int(name.split("p")[1].split("s")[0])


def spconv_layer(layer: SparseConv3d | SparseConvTranspose3d, stride: int) -> nn.Module:
    """spconv's module with the layer's weights; both directions between two strides share a key."""
    import spconv.pytorch as spconv

    sizes, side = (layer.in_channels, layer.out_channels), layer.kernel_size
    if isinstance(layer, SparseConvTranspose3d):
        made = spconv.SparseInverseConv3d(*sizes, side, indice_key=f"down{stride}", bias=False)
    elif layer.stride == 1:
        made = spconv.SubMConv3d(*sizes, side, indice_key=f"{side}at{stride}", bias=False)
    else:
        key = f"down{stride}"
        made = spconv.SparseConv3d(*sizes, side, layer.stride, indice_key=key, bias=False)
    kernel = layer.kernel.detach().reshape(side, side, side, *sizes)  # z, y, x, in, out
    with torch.no_grad():
        made.weight.copy_(kernel.permute(4, 2, 1, 0, 3))  # out, x, y, z, in
    module: nn.Module = made
    return module
