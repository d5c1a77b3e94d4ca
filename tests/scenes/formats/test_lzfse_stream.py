"""What an LZFSE stream declares is what it expands to, for each kind of block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pcdistill.scenes.formats.lzfse_stream import expand_lzfse, is_lzfse, lzfse_size

lzfse = pytest.importorskip("lzfse", reason="lzfse is not installed (extra record3d)")

FILE = Path("a.depth")

RAW = {
    "stored": np.random.default_rng(0).bytes(5000),
    "tiny": b"abc",
    "ramp of several blocks": np.linspace(0, 4, 192 * 256, dtype="<f4").tobytes(),
    "zeros": bytes(200_000),
    "stored, then packed": np.random.default_rng(0).bytes(300_000) + bytes(300_000),
    "repeats": b"depth, depth, depth and again depth. " * 20,
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_declared_and_expanded(raw):
    content = lzfse.compress(raw)
    assert is_lzfse(content)
    assert lzfse_size(FILE, content) == len(raw)
    assert expand_lzfse(FILE, content) == raw


def test_the_streams_have_blocks_of_all_kinds_that_are_known():
    kinds = {lzfse.compress(raw)[:4] for raw in RAW.values()}
    assert {b"bvx-", b"bvx2", b"bvxn"} <= kinds
