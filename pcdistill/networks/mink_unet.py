"""The sparse U-Net of the MinkUNet family."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcdistill.errors import ConfigError
from pcdistill.networks.architectures import Architecture, resolve_architecture
from pcdistill.sparse import (
    SparseBatchNorm,
    SparseConv3d,
    SparseConvTranspose3d,
    SparseTensor,
    import_minkowski,
    import_triton_kernels,
    to_minkowski,
    to_triton,
)
from pcdistill.suggest import suggest

STEM_KERNEL = 5
ENGINES = ("torch", "minkowski", "triton")
"""What can do the arithmetic of the convolutions; weights and results are the same."""


def _activated(
    norm: SparseBatchNorm,
    x: SparseTensor,
    residual: SparseTensor | None = None,
    skip: SparseTensor | None = None,
) -> SparseTensor:
    """Batch norm of a convolution's output, residual, ReLU and skip in one."""
    normalized: SparseTensor = norm(x, residual=residual, relu=True, skip=skip, inplace=True)
    return normalized


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions and a shortcut, projected where the channel count changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SparseConv3d(in_channels, out_channels, 3)
        self.norm1 = SparseBatchNorm(out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels, 3)
        self.norm2 = SparseBatchNorm(out_channels)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                SparseConv3d(in_channels, out_channels, 1), SparseBatchNorm(out_channels)
            )

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(V, C_in) to (V, C_out) on the same voxels."""
        again = self.conv2(_activated(self.norm1, self.conv1(x)))
        shortcut = x
        if self.downsample is not None:
            convolution, norm = self.downsample
            shortcut = norm(convolution(x), inplace=True)
        return _activated(self.norm2, again, shortcut)


def _stage(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels)
    rest = (ResidualBlock(out_channels, out_channels) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


class MinkUNet(nn.Module):
    """Sparse U-Net: a stem, four stages down to stride 16, four stages up with skips, a 1x1 head.

    Parameter names and shapes are those of the reference, so that its checkpoints load.

    Source: Choy et al., 4D Spatio-Temporal ConvNets, CVPR 2019; OpenScene, models/mink_unet.py.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.engine = "torch"
        planes, blocks, stem = (
            architecture.planes,
            architecture.layers,
            architecture.stem_channels,
        )
        self.conv0p1s1 = SparseConv3d(architecture.in_channels, stem, STEM_KERNEL)
        self.bn0 = SparseBatchNorm(stem)

        self.conv1p1s2 = SparseConv3d(stem, stem, 2, stride=2)
        self.bn1 = SparseBatchNorm(stem)
        self.block1 = _stage(stem, planes[0], blocks[0])
        self.conv2p2s2 = SparseConv3d(planes[0], planes[0], 2, stride=2)
        self.bn2 = SparseBatchNorm(planes[0])
        self.block2 = _stage(planes[0], planes[1], blocks[1])
        self.conv3p4s2 = SparseConv3d(planes[1], planes[1], 2, stride=2)
        self.bn3 = SparseBatchNorm(planes[1])
        self.block3 = _stage(planes[1], planes[2], blocks[2])
        self.conv4p8s2 = SparseConv3d(planes[2], planes[2], 2, stride=2)
        self.bn4 = SparseBatchNorm(planes[2])
        self.block4 = _stage(planes[2], planes[3], blocks[3])

        self.convtr4p16s2 = SparseConvTranspose3d(planes[3], planes[4], 2, stride=2)
        self.bntr4 = SparseBatchNorm(planes[4])
        self.block5 = _stage(planes[4] + planes[2], planes[4], blocks[4])
        self.convtr5p8s2 = SparseConvTranspose3d(planes[4], planes[5], 2, stride=2)
        self.bntr5 = SparseBatchNorm(planes[5])
        self.block6 = _stage(planes[5] + planes[1], planes[5], blocks[5])
        self.convtr6p4s2 = SparseConvTranspose3d(planes[5], planes[6], 2, stride=2)
        self.bntr6 = SparseBatchNorm(planes[6])
        self.block7 = _stage(planes[6] + planes[0], planes[6], blocks[6])
        self.convtr7p2s2 = SparseConvTranspose3d(planes[6], planes[7], 2, stride=2)
        self.bntr7 = SparseBatchNorm(planes[7])
        self.block8 = _stage(planes[7] + stem, planes[7], blocks[7])

        self.final = SparseConv3d(planes[7], architecture.out_channels, 1)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights as the reference does, from `generator` where given.

        Convolutions: normal, std sqrt(2 / (K C_out)); 1x1: normal, std sqrt(2 / C_in); transposed:
        uniform +-1 / sqrt(K C_out). Batch norm: weight 1, bias 0.
        """
        for module in self.modules():
            if isinstance(module, SparseConv3d):
                kernel = module.kernel
                fan = kernel.shape[0] if module.pointwise else kernel.shape[0] * kernel.shape[2]
                with torch.no_grad():
                    kernel.normal_(0, math.sqrt(2 / fan), generator=generator)
            elif isinstance(module, SparseConvTranspose3d):
                module.reset_parameters(generator)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()

    def set_engine(self, engine: str) -> None:
        """Set what computes the convolutions, one of `ENGINES`; "torch" until then.

        Raises:
            ConfigError: there is no such engine.
            MissingExtraError: the package of that engine is not installed.
        """
        if engine not in ENGINES:
            raise ConfigError(f"unknown engine '{engine}': {suggest(engine, ENGINES)}")
        if engine == "minkowski":
            import_minkowski()
        elif engine == "triton":
            import_triton_kernels()
        self.engine = engine

    def forward(self, x: SparseTensor) -> Tensor:
        """Features of every voxel.

        Args:
            x: C_in channels, stride 1 (or any other; the network then works from there).

        Returns:
            (V, D) in the row order of the input.

        Raises:
            ValueError: the input has another number of channels than the network, or is not where
                the engine computes.
        """
        if self.engine == "minkowski":
            x = to_minkowski(x)
        elif self.engine == "triton":
            x = to_triton(x)
        at1 = _activated(self.bn0, self.conv0p1s1(x))
        at2 = self.block1(_activated(self.bn1, self.conv1p1s2(at1)))
        at4 = self.block2(_activated(self.bn2, self.conv2p2s2(at2)))
        at8 = self.block3(_activated(self.bn3, self.conv3p4s2(at4)))
        out = self.block4(_activated(self.bn4, self.conv4p8s2(at8)))

        out = self.block5(_activated(self.bntr4, self.convtr4p16s2(out), skip=at8))
        out = self.block6(_activated(self.bntr5, self.convtr5p8s2(out), skip=at4))
        out = self.block7(_activated(self.bntr6, self.convtr6p4s2(out), skip=at2))
        out = self.block8(_activated(self.bntr7, self.convtr7p2s2(out), skip=at1))
        return self.final.forward_features(x.with_sorted(out.sorted_features))


def build_student(
    architecture: str = "MinkUNet18A",
    in_channels: int = 3,
    out_channels: int = 512,
    *,
    width: float = 1.0,
    planes: Sequence[int] | None = None,
    stem_channels: int | None = None,
    layers: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
    engine: str = "torch",
) -> MinkUNet:
    """Build a student network with fresh weights.

    Args:
        architecture: "MinkUNet14A", "MinkUNet18A" or "MinkUNet34C".
        in_channels: input feature channels; 3 in the reference, fed with ones.
        out_channels: D, the size of the text space.
        width: factor on all inner channel counts; 1.0 is the reference.
        planes: channels of the eight stages, instead of the scaled ones.
        stem_channels: channels of the stem, instead of the scaled ones.
        layers: residual blocks of the eight stages, instead of the architecture's.
        generator: source of the random weights; torch's global one if None.
        engine: what computes the convolutions, one of `ENGINES`.

    Raises:
        ConfigError: unknown architecture or engine, or sizes that make no network.
        MissingExtraError: the package of that engine is not installed.
    """
    network = MinkUNet(
        resolve_architecture(
            architecture,
            in_channels,
            out_channels,
            width=width,
            planes=planes,
            stem_channels=stem_channels,
            layers=layers,
        )
    )
    network.set_engine(engine)
    network.reset_parameters(generator)
    return network
