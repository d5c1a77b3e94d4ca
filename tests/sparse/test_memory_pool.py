"""Memory that is used again: results never overlap, and little is held that is not needed."""

from __future__ import annotations

import math
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.sparse.memory_pool import (
    MAX_WASTE,
    MIN_MAPPING,
    MIN_POOLED,
    PAGE,
    MemoryPool,
    empty_pooled,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("rows", [0, 3, 5000])
def test_rows_are_ordinary_tensors(dtype, rows):
    made = empty_pooled(rows, 300, dtype)
    assert made.shape == (rows, 300)
    assert made.dtype == dtype
    assert made.is_contiguous()
    assert not made._is_view()
    made.fill_(7)
    assert torch.equal(made, torch.full((rows, 300), 7, dtype=dtype))


def test_memory_comes_back_when_the_last_tensor_on_it_is_gone():
    pool = MemoryPool()
    first = torch.from_numpy(pool.allocate(MIN_POOLED))
    part = first[10:20]
    place = first.data_ptr()
    del first
    second = pool.allocate(MIN_POOLED)
    assert second.ctypes.data != place
    part.fill_(3)
    second[:] = 4
    assert bool((part == 3).all())
    del part
    assert pool.allocate(MIN_POOLED).ctypes.data == place


def test_a_result_that_autograd_keeps_is_not_overwritten():
    weight = torch.ones(1, requires_grad=True)
    kept = empty_pooled(600, 600, torch.float32).fill_(2)
    product = weight * kept
    del kept  # the product's gradient needs it
    others = [empty_pooled(600, 600, torch.float32).fill_(9) for _ in range(3)]
    product.sum().backward()
    assert float(weight.grad) == 2 * 600 * 600
    assert all(bool((other == 9).all()) for other in others)


@given(st.lists(st.tuples(st.integers(1, 40 << 20), st.integers(0, 5)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_results_never_overlap_and_gaps_are_joined(steps):
    pool, held = MemoryPool(), []
    for size, gone in steps:
        del held[:gone]
        held.append(pool.allocate(size))
        assert len(held[-1]) == size
        held[-1][[0, -1]] = 1
        places = sorted((part.ctypes.data, part.ctypes.data + len(part)) for part in held)
        assert all(one[1] <= other[0] for one, other in pairwise(places))
    if held:
        first = min(part.ctypes.data for part in held)
        held.clear()
        whole = pool.allocate(MIN_MAPPING)  # of the first mapping
        assert whole.ctypes.data <= first or len(pool._mappings) > 1


@given(st.lists(st.tuples(st.integers(1, 6 << 20), st.booleans()), min_size=2, max_size=30))
@settings(deadline=None, max_examples=60)
def test_giving_memory_of_gaps_back_leaves_their_neighbors_alone(steps):
    pool = MemoryPool()
    held = [pool.allocate(size) for size, _ in steps]
    for number, part in enumerate(held):
        part[:] = 1 + number
    kept = {number: held[number] for number, (_, stays) in enumerate(steps) if stays}
    del held, part
    pool.allocate(MIN_POOLED)  # what has come back is seen
    for mapping in pool._mappings:
        mapping.empty_gaps(math.inf)
    assert all((part == 1 + number).all() for number, part in kept.items())
    assert pool.nbytes <= sum(len(part) + 2 * PAGE for part in kept.values()) + 2 * PAGE


@pytest.mark.parametrize("varying", [False, True])
def test_little_more_is_held_than_was_in_use_at_once(varying):
    """As in training: results pile up, then go away one by one while others come and go."""
    generator = np.random.default_rng(0)
    pool, limit, after = MemoryPool(), 0, []
    for _ in range(12):
        scale = generator.uniform(0.5, 1.5) if varying else 1.0
        held = []
        for layer in range(40):
            size = int(scale * (30 << 20) / (1 + layer % 5) ** 2)
            held.append(pool.allocate(size))
            pool.allocate(size)  # and is gone at once
        while held:
            one = pool.allocate(len(held[-1]))
            limit = max(limit, len(one) + sum(map(len, held)))
            held.pop()
        after.append(pool.nbytes)
        assert pool.nbytes <= (1 + MAX_WASTE) * limit + MIN_MAPPING + PAGE
    assert varying or len(set(after[1:])) == 1


def resident() -> int:
    """Bytes of memory that this process has, by the system's own account."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no account of memory here")
def test_a_result_larger_than_every_gap_does_not_add_to_what_the_gaps_hold():
    pool, before = MemoryPool(), resident()
    small = [pool.allocate(48 << 20) for _ in range(8)]
    for part in small:
        part[:] = 1
    assert resident() - before > 8 * 40 << 20
    del small[::2], part  # gaps of 48 MiB, none of which is enough
    large = pool.allocate(192 << 20)
    large[:] = 1
    assert resident() - before < (4 * 48 + 192) * 1.1 * 2**20 + MIN_MAPPING
    assert all((part == 1).all() for part in small)


def test_too_much_is_refused_in_one_sentence_and_the_rest_goes_on():
    pool = MemoryPool()
    kept = pool.allocate(MIN_POOLED)
    with pytest.raises(MemoryError, match=r"has 0\.1 GiB and needs another \d+\.0 GiB, which the"):
        pool.allocate(1 << 60)
    kept[:] = 1
    assert len(pool.allocate(MIN_POOLED)) == MIN_POOLED


def test_where_address_space_is_short_only_what_is_needed_is_asked_for(monkeypatch):
    asked = []

    def stingy(size: int) -> mmap.mmap:
        asked.append(size)
        if size > 8 * MIN_POOLED:
            raise OSError(12, "Cannot allocate memory")
        return mmap.mmap(-1, size)

    monkeypatch.setattr("pcdistill.sparse.memory_pool._map", stingy)
    pool = MemoryPool()
    held = [pool.allocate(MIN_POOLED) for _ in range(3)]
    assert len({part.ctypes.data for part in held}) == 3
    assert max(asked) > 8 * MIN_POOLED > min(asked)


def test_threads_get_memory_of_their_own():
    pool = MemoryPool()

    def fill(number: int) -> bool:
        for _ in range(50):
            array = pool.allocate(MIN_POOLED + 4096 * number)
            array[:] = number
            if not (array == number).all():
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(fill, range(4)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_does_not_write_into_its_parent():
    program = """
import os, torch
from pcdistill.sparse.memory_pool import empty_pooled
rows = empty_pooled(1000, 1000, torch.float32).fill_(1)
child = os.fork()
if not child:
    rows.numpy()[:] = 2
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(float(rows.numpy().max()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "1.0", done.stderr


def test_nothing_is_said_when_the_program_ends():
    program = """
import torch
from pcdistill.sparse.memory_pool import empty_pooled
kept = [empty_pooled(1000, 1000, torch.float32) for _ in range(4)]
del kept[1]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_numbers_of_many_results_stay_what_they_were():
    generator = np.random.default_rng(0)
    held: dict[int, torch.Tensor] = {}
    for number in range(200):
        for gone in [key for key in held if generator.random() < 0.3]:
            del held[gone]
        rows = int(generator.integers(1000, 9000))
        held[number] = empty_pooled(rows, 300, torch.float32).fill_(number)
        assert all(bool((part == key).all()) for key, part in held.items())
