"""Which scenes share a step: batches of an epoch, at random or by the scenes' numbers of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pcdistill.distillation.settings import BatchOrder

_NOISE = 0.2
"""By how much sizes are made wrong, so that neighbours change from epoch to epoch."""


def make_batches(
    sizes: Sequence[int], batch_size: int, order: BatchOrder, generator: torch.Generator
) -> list[list[int]]:
    """Put every scene into one batch of an epoch.

    `random` cuts a random order. `even` sorts the scenes into as many buckets of like size as a
    batch has scenes, and gives each batch one of each bucket: any two batches differ by at most the
    largest scene. `alike` makes a batch of scenes of like size, neighbours in the order of their
    sizes, which are taken wrong by up to a fifth; the batches come in a random order.

    Args:
        sizes: voxels of each scene, by its number; `random` reads only how many there are.
        batch_size: scenes of a batch at most.
        order: how.
        generator: of what is random.

    Returns:
        numbers of scenes; there are as few batches as `batch_size` allows.
    """
    count = len(sizes)
    shuffled = torch.randperm(count, generator=generator).tolist()
    if order == "random":
        return _cut(shuffled, batch_size)
    if order == "alike":
        noise = (1 - _NOISE + 2 * _NOISE * torch.rand(count, generator=generator)).tolist()
        ordered = sorted(shuffled, key=lambda scene: -sizes[scene] * noise[scene])
        batches = [_shuffle(batch, generator) for batch in _cut(ordered, batch_size)]
        places = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[place] for place in places]
    ordered = sorted(shuffled, key=lambda scene: -sizes[scene])
    number = -(-count // batch_size)
    batches = [[] for _ in range(number)]
    for bucket in _cut(ordered, number):  # the last one may be small
        places = torch.randperm(number, generator=generator).tolist()
        for scene, place in zip(bucket, places, strict=False):
            batches[place].append(scene)
    return [_shuffle(batch, generator) for batch in batches]


def _cut(scenes: Sequence[int], size: int) -> list[list[int]]:
    return [list(scenes[i : i + size]) for i in range(0, len(scenes), size)]


def _shuffle(scenes: Sequence[int], generator: torch.Generator) -> list[int]:
    return [scenes[i] for i in torch.randperm(len(scenes), generator=generator).tolist()]
