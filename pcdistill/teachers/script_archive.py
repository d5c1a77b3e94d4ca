"""Tensors of TorchScript archives, read without their program."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.teachers.restricted_unpickler import Foreign, RestrictedUnpickler

_DTYPES = {
    **{"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8},
    "BoolStorage": torch.bool,
}


def is_script_archive(path: Path) -> bool:
    """Whether a zip file is an archive of `torch.jit.save`, not one of `torch.save`."""
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def load_script_archive(path: Path) -> dict[str, Tensor]:
    """Read parameters and buffers by their names in the tree of modules.

    Raises:
        pickle.UnpicklingError: the tree names what is neither module nor tensor.
        KeyError, ValueError, zipfile.BadZipFile: the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        with archive.open(f"{root}/data.pkl") as file:
            module = _Unpickler(file, archive, root).load()
    found: dict[str, Tensor] = {}
    _collect(module, "", found)
    return found


class _Unpickler(RestrictedUnpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._root = root
        self._read: dict[str, torch.UntypedStorage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> torch.TypedStorage:
        kind, dtype, key, _, _ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("it refers to something else than a storage")
        if key not in self._read:
            data = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            self._read[key] = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
        return torch.TypedStorage(  # type: ignore[no-untyped-call]
            wrap_storage=self._read[key], dtype=dtype, _internal=True
        )


def _collect(module: Any, prefix: str, found: dict[str, Tensor]) -> None:
    state = module.state if isinstance(module, Foreign) else None
    for name, value in (state or {}).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value.detach()
        elif isinstance(value, Foreign):
            _collect(value, f"{prefix}{name}.", found)
