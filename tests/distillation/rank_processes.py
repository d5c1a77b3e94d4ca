"""Processes that train together in a test, and what each of them gives back."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from pcdistill.distillation.distributed import ALONE, joined_ranks

PATIENCE = 300.0
"""Seconds after which a test gives up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_environment(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def on_ranks(
    world: int, work: Callable[..., Any], *arguments: Any, lost: int | None = None
) -> list[Any]:
    """Values of `work(ranks, *arguments)` in each of some processes; gloo, one thread each.

    With a world of 1 the work is done here, alone. A process that is to be `lost` has no answer.
    """
    if world == 1:
        return [work(ALONE, *arguments)]
    context, port = multiprocessing.get_context("spawn"), free_port()
    processes, ends = [], []
    for rank in range(world):
        end, theirs = context.Pipe(duplex=False)
        given = (theirs, rank_environment(rank, world, port), work, arguments)
        processes.append(context.Process(target=_begin, args=given, daemon=True))
        processes[-1].start()
        theirs.close()
        ends.append(end)
    answers = [
        (None,) if rank == lost else end.recv() if end.poll(PATIENCE) else "no answer"
        for rank, end in enumerate(ends)
    ]
    for process in processes:
        process.join(PATIENCE)
    assert all(isinstance(answer, tuple) for answer in answers), "\n".join(map(str, answers))
    return [answer[0] for answer in answers]


def _begin(
    end: Connection, environment: dict[str, str], work: Callable[..., Any], arguments: tuple
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        with joined_ranks(gpus=False, max_silence=60) as ranks:
            end.send((work(ranks, *arguments),))
    except BaseException:
        end.send(traceback.format_exc())
