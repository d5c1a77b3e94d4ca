"""The pairs of a kernel map around a block of target rows, ready for one pass in the cache."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Pairs by offset, then target row.

    With a `tile` above 1 the pairs of each offset are filled up with row 0 to a multiple of it; no
    target row counts these.
    """

    sizes: tuple[int, ...]
    """(K,) number of pairs of each offset, filled up."""
    source: Tensor
    """(P,) int32 source row."""
    target: Tensor
    """(P,) int32 target row, counted from the first of the block."""
    members: Tensor
    """(pairs,) int32 place among the P of the pairs of each target row in turn."""
    starts: Tensor
    """(rows,) int32 where a target row's run in `members` begins."""
    filling: Tensor
    """int64 places that hold no pair; empty where the tile is 1."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(part.nbytes for part in self[1:] if isinstance(part, Tensor))


def make_block(rows: Tensor, absent: int, tile: int = 1, skip: int | None = None) -> Block:
    """List the pairs of some target rows.

    Args:
        rows: (K, B) int32 source row of every offset and target row.
        absent: what stands there where no voxel is.
        tile: what the number of pairs of an offset is filled up to a multiple of.
        skip: number of an offset that is left out.
    """
    present = rows < absent
    if skip is not None:
        present[skip] = False
    sizes = present.sum(dim=1, dtype=torch.int32)
    filled = sizes if tile == 1 else (sizes + (tile - 1)) // tile * tile
    begins = filled.cumsum(0, dtype=torch.int32) - filled
    place = present.cumsum(dim=1, dtype=torch.int32).add_((begins - 1)[:, None])
    members = torch.masked_select(place.t(), present.t())
    degree = present.sum(dim=0, dtype=torch.int32)
    starts = degree.cumsum(0, dtype=torch.int32) - degree
    source = torch.masked_select(rows, present)
    local = torch.arange(rows.shape[1], dtype=torch.int32, device=rows.device)
    target = torch.masked_select(local.expand_as(rows), present)
    filling = torch.empty(0, dtype=torch.int64, device=rows.device)
    lengths = tuple(filled.tolist())
    if tile > 1:
        places = torch.masked_select(place, present).long()
        total = sum(lengths)
        source = source.new_zeros(total).index_copy_(0, places, source)
        target = target.new_zeros(total).index_copy_(0, places, target)
        free = torch.ones(total, dtype=torch.bool, device=rows.device).index_fill_(0, places, False)
        filling = free.nonzero().squeeze(1)
    return Block(lengths, source, target, members, starts, filling)
