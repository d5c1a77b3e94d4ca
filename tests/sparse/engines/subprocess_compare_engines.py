"""Run by test_engine_minkowski.py with MinkowskiEngine on the import path: both engines, one scene.

    python compare_engines.py voxels.npy forward|step|rows|turned

Prints one JSON object of relative differences, torch against minkowski.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from torch import Tensor

from pcdistill.networks import build_student
from pcdistill.sparse import CoordinateManager, GridSymmetry, SparseTensor, to_minkowski

WIDE = 512


def student(seed: int = 0) -> torch.nn.Module:
    """A full-size network whose batch norms have statistics that are not the defaults."""
    generator = torch.Generator().manual_seed(seed)
    network = build_student("MinkUNet18A", 3, WIDE, generator=generator)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def difference(mine: Tensor, other: Tensor) -> float:
    """Largest difference over the largest entry."""
    return float((mine - other).abs().max() / mine.abs().max())


def distance(mine: Tensor, other: Tensor) -> float:
    """L2 norm of the difference over that of the whole."""
    return float((mine - other).norm() / mine.norm())


def forward(coords: Tensor, features: Tensor) -> dict[str, float]:
    """Outputs in eval mode."""
    network, outputs = student().eval(), []
    with torch.no_grad():
        for engine in ("torch", "minkowski"):
            network.set_engine(engine)
            outputs.append(network(SparseTensor(features, coords)))
    return {"output": difference(*outputs), "rows": len(outputs[0])}


def step(coords: Tensor, features: Tensor) -> dict[str, float]:
    """Outputs, running statistics and gradients of a step in train mode, in float64.

    In float32 another order of summation takes single units to the other side of the kink of ReLU,
    which changes gradients of layers with few voxels by percents, right as they are.
    """
    results = []
    generator = torch.Generator().manual_seed(1)
    upstream = torch.randn(len(coords), WIDE, generator=generator).double()
    for engine in ("torch", "minkowski"):
        network = student().train().double()
        network.set_engine(engine)
        inputs = features.double().requires_grad_()
        out = network(SparseTensor(inputs, coords))
        out.backward(upstream)
        gradients = [parameter.grad for parameter in network.parameters()]
        results.append((out.detach(), [inputs.grad, *gradients], list(network.buffers())))
    (out, gradients, buffers), (other_out, other_gradients, other_buffers) = results
    return {
        "output": difference(out, other_out),
        "gradients": max(map(distance, gradients, other_gradients)),
        "statistics": max(
            difference(a, b) for a, b in zip(buffers, other_buffers, strict=True) if a.dim()
        ),
    }


def turned(coords: Tensor, features: Tensor) -> dict[str, float]:
    """Outputs on maps of a turned grid."""
    network, outputs = student().eval(), []
    maps = CoordinateManager(coords).transformed(GridSymmetry((1, 0, 2), (True, False, False)))
    with torch.no_grad():
        for engine in ("torch", "minkowski"):
            network.set_engine(engine)
            outputs.append(network(SparseTensor(features, coords, maps=maps)))
    return {"output": difference(*outputs)}


def rows(coords: Tensor, features: Tensor) -> dict[str, bool]:
    """What going over to MinkowskiEngine keeps."""
    x = SparseTensor(features, coords)
    there = to_minkowski(x)
    nothing = SparseTensor(features[:0], coords[:0])
    return {
        "coords": torch.equal(there.coords, x.coords),
        "features": torch.equal(there.features, x.features),
        "empty": to_minkowski(nothing) is nothing,
    }


def main() -> None:
    """Compare as the arguments say."""
    file, what = sys.argv[1:3]
    generator = torch.Generator().manual_seed(2)
    coords = torch.from_numpy(np.load(file))
    coords = coords[torch.randperm(len(coords), generator=generator)]
    features = torch.rand(len(coords), 3, generator=generator)
    compare = {"forward": forward, "step": step, "rows": rows, "turned": turned}[what]
    print(json.dumps(compare(coords, features)))


if __name__ == "__main__":
    main()
