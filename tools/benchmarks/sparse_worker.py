"""One engine of the sparse network in a process of its own, so that its peak memory is its own.

It reads commands, one word a line, and answers each with one JSON object on a line; the benchmark
`sparse` starts one for every engine and asks them in turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pcdistill.networks import MinkUNet, build_student
from pcdistill.sparse import (
    CoordinateManager,
    SparseConv3d,
    SparseConvTranspose3d,
    SparseTensor,
    normalization,
)
from pcdistill.sparse.engines import cpu_norm, torch_engine
from pcdistill.sparse.kernel_map import KernelMap

Convolution = SparseConv3d | SparseConvTranspose3d

ARCHITECTURE, IN_CHANNELS = "MinkUNet18A", 3
BFLOAT16 = "_bfloat16"
"""What the name of an engine of ours ends with when its products are of 16 bits."""
LOW_PRECISION, TRITON_LOW_PRECISION = f"torch{BFLOAT16}", f"triton{BFLOAT16}"
ENGINES = ("torch", LOW_PRECISION, "minkowski", "triton", TRITON_LOW_PRECISION, "spconv")
SAMPLED_ROWS = 512
"""Rows of the output that are compared between the engines."""
PARTS = {
    (torch_engine, "cpu_convolution"): "convolutions",
    (torch_engine, "cpu_kernel_gradient"): "convolutions",
    (normalization, "batch_norm_train"): "norm and ReLU",
    (normalization, "batch_norm_eval"): "norm and ReLU",
    (cpu_norm, "batch_norm_backward"): "norm and ReLU",
}
"""What does the arithmetic on the CPU, forward and backward, and what the profile calls it."""
MATRIX, RATE_SECONDS = 2048, 0.4
"""Side of the square matrices whose product gives the machine's rate; how long it is tried."""


class OurNetwork:
    """The network with the convolutions of one engine, `torch` and `triton` also in bfloat16."""

    def __init__(self, engine: str, coords: Tensor, network: MinkUNet) -> None:
        self.low_precision = engine.endswith(BFLOAT16)
        network.set_engine(engine.removesuffix(BFLOAT16))
        self.network, self.coords = network, coords
        self.features = torch.ones(len(coords), IN_CHANNELS, device=coords.device)

    def __call__(self, maps: CoordinateManager | None = None) -> Tensor:
        """Features of every voxel, from voxels whose kernel maps are unknown unless given."""
        with torch.autocast(self.coords.device.type, torch.bfloat16, enabled=self.low_precision):
            out: Tensor = self.network(SparseTensor(self.features, self.coords, maps=maps))
            return out.float()

    def maps(self) -> CoordinateManager:
        """The voxels at every stride, with all kernel maps of the network."""
        x = SparseTensor(self.features, self.coords)
        with torch.no_grad():
            self.network(x)
        return x.maps


class Worker:
    """Answers the commands."""

    def __init__(self, engine: str, coords: Tensor, out_channels: int) -> None:
        self.device = coords.device
        generator = torch.Generator().manual_seed(0)
        network = build_student(ARCHITECTURE, IN_CHANNELS, out_channels, generator=generator)
        self.network = network.to(coords.device)
        if engine == "spconv":
            from spconv_network import SpconvNetwork

            self.model = SpconvNetwork(coords, self.network)
        else:
            self.model = OurNetwork(engine, coords, self.network)
        self.modules = self.model if engine == "spconv" else self.network
        self.known_maps: CoordinateManager | None = None
        self.shape = (len(coords), out_channels)
        self._upstream: Tensor | None = None

    @property
    def upstream(self) -> Tensor:
        """(V, D) gradient that comes back to the output; made at the first step."""
        if self._upstream is None:
            generator = torch.Generator().manual_seed(1)
            self._upstream = torch.randn(self.shape, generator=generator).to(self.device)
        return self._upstream

    def forward(self) -> dict[str, Any]:
        """Seconds of a forward pass in eval mode, kernel maps included."""
        self.modules.eval()
        with torch.no_grad():
            return {"seconds": self._seconds(self.model)}

    def step(self) -> dict[str, Any]:
        """Seconds of forward and backward in train mode, kernel maps included."""
        self.modules.train()
        self.modules.zero_grad(set_to_none=True)
        upstream = self.upstream
        return {"seconds": self._seconds(lambda: self.model().backward(upstream))}

    def forward_kept(self) -> dict[str, Any]:
        """Seconds of a forward pass whose kernel maps are there, and of its convolutions alone."""
        self.modules.eval()
        if self.known_maps is None:
            self.known_maps = self.model.maps()
        with torch.no_grad(), ConvolutionClock(self.network) as clock:
            seconds = self._seconds(lambda: self.model(self.known_maps))
        return {"seconds": seconds, "convolutions": clock.seconds if clock.complete else None}

    def step_kept(self) -> dict[str, Any]:
        """Seconds of forward and backward whose kernel maps are there."""
        self.modules.train()
        self.modules.zero_grad(set_to_none=True)
        if self.known_maps is None:
            self.known_maps = self.model.maps()
        upstream = self.upstream
        return {"seconds": self._seconds(lambda: self.model(self.known_maps).backward(upstream))}

    def profile(self) -> dict[str, Any]:
        """Share of the seconds of one thread in the parts of a forward pass and of a step."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        shares = {}
        for name, bare, kept in (
            ("forward", self.forward, self.forward_kept),
            ("step", self.step, self.step_kept),
        ):
            kept()
            whole, without_maps = bare()["seconds"], kept()["seconds"]
            with labelled_parts(), torch.profiler.profile() as profiler:
                profiled = kept()["seconds"]
            totals = {event.key: event.cpu_time_total / 1e6 for event in profiler.key_averages()}
            known = {part: totals[part] for part in dict.fromkeys(PARTS.values())}
            known["everything else"] = max(0.0, profiled - sum(known.values()))
            maps = max(0.0, 1 - without_maps / whole)
            scale = (1 - maps) / sum(known.values())  # the profiler takes time itself
            shares[name] = {part: seconds * scale for part, seconds in known.items()}
            shares[name]["kernel maps"] = maps
        torch.set_num_threads(threads)
        return shares

    def output(self) -> dict[str, Any]:
        """Some rows of the output in eval mode, to compare between engines."""
        self.modules.eval()
        with torch.no_grad():
            features = self.model()
        rows = torch.linspace(0, len(features) - 1, min(SAMPLED_ROWS, len(features))).long()
        return {"rows": features[rows.to(features.device)].cpu().tolist()}

    def work(self) -> dict[str, Any]:
        """Floating-point operations of the forward pass's convolutions."""
        maps = self.model.maps()
        return {
            "flop": convolution_flop(self.network, maps),
            "neighbours": sum(maps.kernel_map(1, 1, 3).counts) / len(maps.level(1).coords),
        }

    def rate(self) -> dict[str, Any]:
        """Floating-point operations a second of a large matrix product."""
        left = torch.randn(MATRIX, MATRIX, device=self.device)
        tries: list[float] = []
        while len(tries) < 2 or sum(tries) < RATE_SECONDS:
            tries.append(self._seconds(lambda: left @ left))
        return {"flop_per_second": 2 * MATRIX**3 / min(tries)}

    def memory(self) -> dict[str, Any]:
        """Bytes of the largest memory of this process so far (on a GPU: of its tensors)."""
        if self.device.type == "cuda":
            return {"bytes": torch.cuda.max_memory_allocated()}
        return {"bytes": peak_bytes()}

    def _seconds(self, work: Callable[[], object]) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def convolutions(network: nn.Module) -> list[Convolution]:
    """The convolution layers of a network."""
    return [module for module in network.modules() if isinstance(module, Convolution)]


@contextmanager
def around_convolutions(
    layers: Sequence[Convolution], around: Callable[..., Tensor]
) -> Iterator[None]:
    """Have each layer's arithmetic done by `around(layer, convolve, features, pairs)`."""
    for layer in layers:
        setattr(layer, "_convolve", partial(around, layer, layer._convolve))  # noqa: B010
    try:
        yield
    finally:
        for layer in layers:
            del layer._convolve


@contextmanager
def labelled_parts() -> Iterator[None]:
    """Have the profiler see what functions do under the names of `PARTS`."""
    before = {place: getattr(*place) for place in PARTS}

    def labelled(function: Callable[..., object], part: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            with torch.profiler.record_function(part):
                return function(*arguments, **options)

        return call

    for (module, name), part in PARTS.items():
        setattr(module, name, labelled(before[module, name], part))
    try:
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


class ConvolutionClock:
    """Adds up the time inside the convolution layers of a network."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = convolutions(network)
        self.seconds, self.calls = 0.0, 0
        self._watch = around_convolutions(self.layers, self._timed)

    @property
    def complete(self) -> bool:
        """Whether every layer was seen, and timing by the host means something."""
        on_cpu = next(self.layers[0].parameters()).device.type == "cpu"
        return on_cpu and self.calls == len(self.layers)

    def _timed(self, _: nn.Module, convolve: Callable[..., Tensor], *given: object) -> Tensor:
        begin = time.perf_counter()
        out = convolve(*given)
        self.seconds += time.perf_counter() - begin
        self.calls += 1
        return out

    def __enter__(self) -> ConvolutionClock:
        self._watch.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watch.__exit__(kind, error, trace)


def convolution_flop(network: MinkUNet, maps: CoordinateManager) -> int:
    """Two operations for every pair of voxels, input channel and output channel."""
    total = 0

    def counted(
        layer: Convolution,
        convolve: Callable[..., Tensor],
        features: Tensor,
        pairs: KernelMap | None,
        *more: object,
    ) -> Tensor:
        nonlocal total
        count = len(features) if pairs is None else sum(pairs.counts)
        total += 2 * count * layer.in_channels * layer.out_channels
        return convolve(features, pairs, *more)

    coords = maps.level(1).coords
    ones = torch.ones(len(coords), IN_CHANNELS, device=coords.device)
    with torch.no_grad(), around_convolutions(convolutions(network), counted):
        network.eval()(SparseTensor(ones, coords, maps=maps))
    return total


def peak_bytes() -> int:
    """Largest resident memory of this process; unlike `getrusage` without its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM line")


def main() -> None:
    """Serve the commands on standard input until it ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("coords", type=Path, help="(V, 4) int32, .npy")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out-channels", type=int, default=512)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    coords = torch.from_numpy(np.load(arguments.coords)).to(arguments.device)
    worker = Worker(arguments.engine, coords, arguments.out_channels)
    for line in sys.stdin:
        answer = getattr(worker, line.strip())()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
