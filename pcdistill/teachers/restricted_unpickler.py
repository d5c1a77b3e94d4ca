"""Unpickler of tensors, numpy arrays and plain containers that calls nothing else.

Official checkpoints are pickles, and a pickle may name any function, to be called while it is read.
Here names are looked up in a table of builders that only fill memory. Settings that a training left
beside the weights become `Foreign`, without their code; any other name ends the reading.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

FOREIGN_PACKAGES = ("argparse", "omegaconf", "pytorch_lightning", "lightning", "lightning_fabric")
"""Packages whose objects trainings store beside weights; nothing of them is imported."""
SCRIPT_PREFIX = "__torch__."
"""Names of compiled modules in TorchScript archives; their code is not looked at."""
_NUMERIC_KINDS = "biufc"


class Foreign:
    """An object of a class that is not loaded: whatever it was given, and no code."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of a foreign dictionary are dropped."""

    def append(self, value: Any) -> None:
        """Items of a foreign list are dropped."""

    def extend(self, values: Any) -> None:
        """Items of a foreign list are dropped."""


class RestrictedUnpickler(pickle._Unpickler):
    """Reads what arrays, tensors and plain containers are made of.

    It is the one in Python, which keeps what is named later in a dictionary: the compiled one makes
    a list as long as the largest number in the file, so that six bytes take 32 GiB.

    Raises:
        pickle.UnpicklingError: from `load`, where the file names anything else.
    """

    def __init__(self, file: Any, **_: Any) -> None:
        """Read from an open file; texts of Python 2 are taken as latin1, as numpy asks."""
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """The builder of that name."""
        known = _BUILDERS.get((module, name))
        if known is not None:
            return known
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module.split(".")[0] in FOREIGN_PACKAGES or module.startswith(SCRIPT_PREFIX):
            return Foreign
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is nothing of tensors")


class PickleModule:
    """Stands for the module `pickle` where torch takes one."""

    __name__ = "pickle"
    Unpickler = RestrictedUnpickler
    UnpicklingError = pickle.UnpicklingError

    @staticmethod
    def load(file: Any, **_: Any) -> Any:
        """Read one pickle of an open file."""
        return RestrictedUnpickler(file).load()


def _array(_: Any, shape: Any, kind: Any) -> NDArray[Any]:
    return np.ndarray(shape, kind)  # empty; pickle fills it


def _dtype(kind: Any, *flags: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(kind), *flags[:2])
    if dtype.kind not in _NUMERIC_KINDS:
        raise pickle.UnpicklingError(f"it has an array of {dtype}, expected numbers")
    return dtype


def _scalar(dtype: np.dtype[Any], value: Any) -> Any:
    data = value.encode("latin1") if isinstance(value, str) else value
    return np.frombuffer(data, dtype)[0].item()


def _array_of_buffer(data: Any, dtype: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
    filled: NDArray[Any] = np.frombuffer(data, dtype).reshape(shape, order=order).copy()
    return filled


def _storage(data: bytes) -> Any:
    """A storage that `pickle.dump` of a tensor wrote as a file of torch inside of the file."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes that Python 3 wrote for readers in Python 2."""
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


def _bytearray(*given: Any) -> bytearray:
    """Bytes that are there; a number would ask for as many zeros."""
    if given and isinstance(given[0], int):
        raise pickle.UnpicklingError(f"it asks for {given[0]} empty bytes")
    return bytearray(*given)


def _numbers(values: list[Any]) -> list[Any]:
    return list(values)


_NUMPY_CORES = ("numpy.core", "numpy._core")
_BUILDERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    **{(builtins, "set"): set for builtins in ("builtins", "__builtin__")},
    **{(builtins, "bytearray"): _bytearray for builtins in ("builtins", "__builtin__")},
    ("_codecs", "encode"): _bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    **{(f"{core}.multiarray", "_reconstruct"): _array for core in _NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _array_of_buffer for core in _NUMPY_CORES},
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    **{
        ("torch.jit._pickle", f"build_{kind}list"): _numbers
        for kind in ("int", "double", "bool", "tensor")
    },
}
"""(module, name) in a pickle -> what is called for it."""
