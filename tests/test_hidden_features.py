"""Every library that computes obeys when features of the processor are hidden from it."""

import os
import subprocess
import sys

from tests.conftest import REPOSITORY
from tests.hidden_features import HIDDEN

SEEN = """
import numba, numpy, torch
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from numba.core.registry import cpu_target

@numba.njit(cache=True)
def three():
    return 1 + 2

three()
print(torch.backends.cpu.get_cpu_capability().lower())
print(" ".join(name for name in __cpu_dispatch__ if __cpu_features__[name]))
print(cpu_target.target_context.codegen().magic_tuple()[2])
print(sum(three.stats.cache_hits.values()))
"""


def seen(name: str, folder) -> list[str]:
    """What torch, numpy and numba see, and how often numba found what it had compiled before."""
    program = folder / "program.py"
    program.write_text(SEEN)
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **HIDDEN[name], "NUMBA_CACHE_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_libraries_see_what_is_left_and_keep_what_they_compile_apart(tmp_path):
    torch_sees, numpy_sees, numba_sees, hits = seen("scalar", tmp_path)[:4]
    assert (torch_sees, numpy_sees, hits) == ("default", "", "0")
    assert "avx" not in numba_sees
    torch_sees, numpy_sees, numba_sees, hits = seen("avx2", tmp_path)[:4]
    assert hits == "0"  # not what was compiled for fewer features
    assert torch_sees in ("avx2", "default")
    assert not {name for name in numpy_sees.split() if "AVX512" in name or name == "X86_V4"}
    assert "avx512" not in numba_sees
    assert seen("avx2", tmp_path)[3] == "1"
