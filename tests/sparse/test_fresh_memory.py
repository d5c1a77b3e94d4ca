"""Memory that is used again: never two results in one, never more than was needed at once."""

from __future__ import annotations

import gc
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

from pcdistill.sparse.fresh_memory import LARGEST_WASTE, PAGE, SMALLEST, MemoryPool, fresh_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("rows", [0, 3, 5000])
def test_rows_are_ordinary_tensors(dtype, rows):
    made = fresh_rows(rows, 300, dtype)
    assert made.shape == (rows, 300)
    assert made.dtype == dtype
    assert made.is_contiguous()
    assert not made._is_view()
    made.fill_(7)
    assert torch.equal(made, torch.full((rows, 300), 7, dtype=dtype))


def test_memory_comes_back_when_the_last_tensor_on_it_is_gone():
    pool = MemoryPool()
    first = torch.from_numpy(pool.take(SMALLEST))
    part = first[10:20]
    place = first.data_ptr()
    del first
    second = pool.take(SMALLEST)
    assert second.ctypes.data != place
    part.fill_(3)
    second[:] = 4
    assert bool((part == 3).all())
    del part
    assert pool.take(SMALLEST).ctypes.data == place


def test_a_result_that_autograd_keeps_is_not_overwritten():
    weight = torch.ones(1, requires_grad=True)
    kept = fresh_rows(600, 600, torch.float32).fill_(2)
    product = weight * kept
    del kept  # the product's gradient needs it
    others = [fresh_rows(600, 600, torch.float32).fill_(9) for _ in range(3)]
    product.sum().backward()
    assert float(weight.grad) == 2 * 600 * 600
    assert all(bool((other == 9).all()) for other in others)


def test_much_larger_memory_is_not_given_to_a_small_result():
    pool = MemoryPool()
    large, small = pool.take(64 * SMALLEST), pool.take(4 * PAGE)
    place = large.ctypes.data
    del large, small
    assert pool.take(SMALLEST).ctypes.data != place
    assert pool.take(int(64 * SMALLEST / (1 + LARGEST_WASTE)) + 1).ctypes.data == place


@given(st.lists(st.tuples(st.integers(1, 40 << 20), st.integers(0, 5)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_no_more_is_held_than_was_in_use_at_once(steps):
    pool, held, most = MemoryPool(), [], 0
    for size, gone in steps:
        del held[:gone]
        gc.collect(0)
        held.append(pool.take(size))
        assert len(held[-1]) == size
        places = sorted((part.ctypes.data, part.ctypes.data + len(part)) for part in held)
        assert all(one[1] <= other[0] for one, other in pairwise(places))
        room = sum(len(part) * (1 + LARGEST_WASTE) + 2 * PAGE for part in held)
        most = max(most, room)
        assert pool.nbytes <= most


def test_threads_get_memory_of_their_own():
    pool = MemoryPool()

    def fill(number: int) -> bool:
        for _ in range(50):
            array = pool.take(SMALLEST + 4096 * number)
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
from pcdistill.sparse.fresh_memory import fresh_rows
rows = fresh_rows(1000, 1000, torch.float32).fill_(1)
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
from pcdistill.sparse.fresh_memory import fresh_rows
kept = [fresh_rows(1000, 1000, torch.float32) for _ in range(4)]
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
        held[number] = fresh_rows(rows, 300, torch.float32).fill_(number)
        assert all(bool((part == key).all()) for key, part in held.items())
