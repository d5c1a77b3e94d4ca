"""Processes that train one student together, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from pcdistill.errors import ConfigError, LostRankError, PcdistillError, TrainingError

MAX_SILENCE = 600.0
"""Seconds that a process waits for the others before it takes them for lost."""

T = TypeVar("T")


class Ranks:
    """The processes of a training, of which this is one; alone, nothing is sent.

    Every method that sends is called by all of them, in the same order. Small numbers travel as
    tensors of the CPU (gloo), gradients and sums of the network where they are (nccl on GPUs).

    Raises (all that send):
        LostRankError: another process ended, or was silent for too long.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world
        self._reason = ""  # why another process is taken for lost

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and tells how it goes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self.world == 1

    def add(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes, in place; returns it."""
        if not self.is_alone:
            with self._heard():
                distributed.all_reduce(tensor)
        return tensor

    def gather(self, numbers: Sequence[int]) -> Tensor:
        """(world, n) int64: the n numbers of every process, by rank."""
        table = torch.zeros(self.world, len(numbers), dtype=torch.int64)
        table[self.rank] = torch.tensor(numbers, dtype=torch.int64)
        return self.add(table)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in some process."""
        return flag if self.is_alone else bool(self.gather([int(flag)]).any())

    def shares(self, *counts: int) -> list[float]:
        """What is here of everything that is counted; 1 for each where this process is alone.

        A mean over what is here, times its share, summed over the processes is the mean over all.
        """
        if self.is_alone:
            return [1.0] * len(counts)
        totals = self.gather(counts).sum(dim=0).tolist()
        return [count / max(1, total) for count, total in zip(counts, totals, strict=True)]

    def require_same(self, number: int, file: str) -> None:
        """Refuse processes that read different things.

        Raises:
            TrainingError: the number that each read of a file is not the same.
        """
        found = self.gather([number])[:, 0].tolist()
        if len(set(found)) > 1:
            raise TrainingError(
                f"{file}: the processes found training at the epochs {found}, expected one; give "
                "all machines the same workspace, on a file system that they share"
            )

    def add_gradients(self, network: nn.Module) -> None:
        """Sum the gradients of all parameters over the processes, in one message."""
        if self.is_alone:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.add(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first process."""
        if not self.is_alone:
            with self._heard():
                for tensor in tensors:
                    distributed.broadcast(tensor, 0)

    def from_first(self, make: Callable[[], T]) -> T:
        """Let the first process make something, and give it to all.

        Raises:
            PcdistillError: in the first process, what `make` raised; its text is the message.
            SystemExit: in the others then, with the status of an expected error.
        """
        if self.is_alone:
            return make()
        made: list[T | None] = [None]
        trouble: PcdistillError | None = None
        if self.is_first:
            try:
                made = [make()]
            except PcdistillError as error:
                trouble = error
        failed = self.any(trouble is not None)
        if trouble is not None:
            raise trouble
        if failed:
            raise SystemExit(2)
        with self._heard():
            distributed.broadcast_object_list(made, 0)
        return made[0]  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until all have come here."""
        self.any(False)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Say in one sentence that another process is lost, at once where it is known."""
        try:
            if not self._reason:
                yield
                return
        except RuntimeError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._reason = lines[0].partition(". ")[0]
        raise LostRankError(
            f"rank {self.rank} of {self.world}: another process of the training ended or did not "
            f"answer ({self._reason}); see what it wrote, then give the same command again: it "
            "goes on from the last state that was written"
        )


ALONE = Ranks()
"""The one process of a training in one process."""
_joined = ALONE


def current_ranks() -> Ranks:
    """The processes that `joined_ranks` joined; this one alone where it did not."""
    return _joined


@contextmanager
def joined_ranks(*, gpus: bool, max_silence: float = MAX_SILENCE) -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun, this one is alone.

    Args:
        gpus: each process takes the GPU of its number on its machine.
        max_silence: seconds after which a process that does not answer is taken for lost.

    Raises:
        ConfigError: torchrun started more processes than the machine has GPUs.
        LostRankError: the processes did not find each other.
    """
    global _joined
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if gpus:
        local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= found:
            raise ConfigError(
                f"--nproc-per-node is {local + 1} or more but this machine has {found} GPUs, "
                "expected a process for each at most; lower it, or set distill.device: cpu"
            )
        torch.cuda.set_device(local)
    with ranks._heard():
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=timedelta(seconds=max_silence)
        )
    _joined = ranks
    try:
        yield ranks
        distributed.destroy_process_group()  # not after an error: the others may wait no more
    finally:
        _joined = ALONE
