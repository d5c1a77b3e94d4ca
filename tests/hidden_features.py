"""Environments that hide features of the processor from every library that computes for us.

Sums are rounded differently where registers are narrower and multiplications are not fused with
additions; what a test promises has to hold there too. ``HIDDEN[name]`` is an environment for a new
process; libraries read it as they are loaded. It can be made, and means the same, on any machine:
what a machine does not have needs no hiding.

    python -m tests.hidden_features scalar python -m pytest tests/sparse

Ray casting (embree) and PIL choose for themselves, and cannot be told.
"""

from __future__ import annotations

import os
import platform
import sys

from llvmlite import binding
from numpy._core._multiarray_umath import __cpu_dispatch__ as numpy_dispatch

GLIBC_512 = ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX512ER", "AVX512PF")
GLIBC_256 = ("AVX2", "AVX", "FMA", "FMA4", "BMI1", "BMI2", "LZCNT", "MOVBE", "ERMS", "FSRM")
"""What glibc's mathematics and copying look for."""

BASELINE = ("64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2")
"""What every x86-64 processor has."""


def _wide(feature: str) -> bool:
    """Whether a feature, as LLVM or numpy spell it, belongs to registers of 512 bits or more."""
    return feature.lower().startswith(("avx512", "avx10", "amx", "x86_v4", "evex512"))


def _environment(scalar: bool) -> dict[str, str]:
    """What hides vectors of 512 bits and bfloat16; with `scalar`, all that not every x86-64 has."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {"ATEN_CPU_CAPABILITY": "default"} if scalar else {}
    present = {name for name, has in binding.get_host_cpu_features().items() if has}
    kept = BASELINE if scalar else [name for name in present if not _wide(name)]
    hidden = GLIBC_512 + GLIBC_256 if scalar else GLIBC_512
    environment = {
        # numpy's loops; it refuses names that this numpy was not built with
        "NPY_DISABLE_CPU_FEATURES": " ".join(
            name for name in numpy_dispatch if scalar or _wide(name)
        ),
        # our compiled loops; numba keeps what it compiled for each name and list apart
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in sorted(kept)),
        # the C library's exp, sin, copying; it passes over names that it does not know
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-" + ",-".join(hidden),
    }
    if scalar:
        return environment | {
            "ATEN_CPU_CAPABILITY": "default",  # torch's loops
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",  # torch's matrix products, by Intel
            "MKL_CBWR": "COMPATIBLE",  # and by others
            "ONEDNN_MAX_CPU_ISA": "SSE41",  # torch's convolutions
            "OPENBLAS_CORETYPE": "Prescott",  # numpy's and scipy's matrix products
        }
    if "avx2" not in present:
        return environment
    return environment | {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    }


HIDDEN: dict[str, dict[str, str]] = {
    "avx2": _environment(scalar=False),
    "scalar": _environment(scalar=True),
}
"""Environments by what is left of the processor."""


def main() -> None:
    """Replace this process by a command that sees less of the processor."""
    if len(sys.argv) < 3 or sys.argv[1] not in HIDDEN:
        sys.exit(f"usage: python -m tests.hidden_features {{{','.join(HIDDEN)}}} COMMAND ...")
    os.environ.update(HIDDEN[sys.argv[1]])
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
