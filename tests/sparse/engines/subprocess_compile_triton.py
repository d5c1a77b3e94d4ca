"""Run by test_engine_triton.py: compile, without a GPU, what the engine 'triton' would start there.

    python compile_triton.py 80 90      # compute capabilities, without the dot

The launches of real forward and backward passes are noted instead of made, then compiled for the
GPU as they are. Prints a JSON list of what came out, one entry for each kernel and GPU.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pcdistill.sparse import CoordinateManager
from pcdistill.sparse.engines import triton_engine
from pcdistill.sparse.engines.triton_engine import STAGES, Tile, triton_convolution
from tests.sparse.test_convolution import random_voxels

FULL, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16
LAYERS = (
    (5, 1, 3, 32, (FULL, HALF, BRAIN)),
    (3, 1, 96, 96, (FULL, BRAIN)),
    (3, 1, 10, 33, (FULL, BRAIN)),
    (2, 2, 64, 128, (FULL, HALF, BRAIN)),
)
"""Kernel size, stride, channels in and out, dtypes; both directions and gradients are compiled."""
NAMES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int32: "i32",
}
ALIGNED = [["tt.divisibility", 16]]
PRODUCT = re.compile(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)([\w.:]*)")


class Launches:
    """Stands in for the launching of kernels, and notes each different one."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[ASTSource, Tile, dict[str, Any]]] = {}

    def __call__(
        self,
        function: Any,
        programs: int,
        tensors: tuple[Tensor, ...],
        sizes: tuple[int, ...],
        tile: Tile,
        options: dict[str, int],
    ) -> None:
        """Specialise the arguments as Triton does when it starts a kernel."""
        chosen = dict(
            ROWS=tile.rows,
            INNER=tile.inner,
            OUTER=tile.outer,
            PRECISION=triton_engine._float32_products(),
            **options,
        )
        values = iter((*tensors, *sizes))
        signature, fixed, attributes = {}, {}, {}
        for number, parameter in enumerate(function.params):
            name = parameter.name
            if parameter.is_constexpr:
                signature[name], fixed[name] = "constexpr", chosen.pop(name)
                continue
            value = next(values)
            if isinstance(value, Tensor):
                signature[name], attributes[(number,)] = f"*{NAMES[value.dtype]}", ALIGNED
            elif parameter.do_not_specialize:
                signature[name] = "i32"
            elif value == 1:
                signature[name], fixed[name] = "constexpr", 1
            else:
                signature[name] = "i32"
                if value % 16 == 0:
                    attributes[(number,)] = ALIGNED
        assert not chosen
        assert not list(values)
        about = {"kernel": function.__name__, "features": signature["features"], **fixed}
        source = ASTSource(function, signature, fixed, attributes)
        self.found[f"{signature} {fixed} {attributes}"] = source, tile, about


def noted() -> Launches:
    """The launches of all layers in all precisions."""
    launches = Launches()
    triton_engine._launch = launches
    triton_engine._require_gpu = lambda device: None
    maps = CoordinateManager(random_voxels(64, seed=3))
    for size, stride, n_in, n_out, dtypes in LAYERS:
        pairs = maps.kernel_map(1, stride, size)
        for side in (pairs, pairs.transposed):
            for dtype in dtypes:
                features = torch.zeros(side.n_source, n_in, dtype=dtype, requires_grad=True)
                kernel = torch.zeros(size**3, n_in, n_out, dtype=dtype, requires_grad=True)
                triton_convolution(features, kernel, side).sum().backward()
    torch.backends.cuda.matmul.allow_tf32 = True
    features, kernel = torch.zeros(maps.level(1).coords.shape[0], 64), torch.zeros(27, 64, 64)
    triton_convolution(features, kernel, maps.kernel_map(1, 1, 3))
    return launches


def main() -> None:
    """Compile them all for every GPU."""
    found, results = noted().found.values(), []
    for capability in map(int, sys.argv[1:]):
        target = GPUTarget("cuda", capability, 32)
        for source, tile, about in found:
            options = {"num_warps": tile.warps, "num_stages": STAGES, "enable_fp_fusion": True}
            compiled = triton.compile(source, target=target, options=options)
            text = compiled.asm["ptx"]
            results.append(
                {
                    **about,
                    "capability": capability,
                    "products": Counter("".join(found) for found in PRODUCT.findall(text)),
                    "float32 sums": text.count("fma.rn.f32"),
                    "shared bytes": compiled.metadata.shared,
                    "machine code bytes": len(compiled.asm["cubin"]),
                }
            )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
