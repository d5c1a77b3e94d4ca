"""Writing of safetensors files: the same content gives the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and texts as a safetensors file, its header sorted by key.

    The library writes the texts in another order each time, and under a name of its own first: in a
    folder beside a `.part` of `atomic_file`, so that it goes with what a killed process left.

    Args:
        tensors: by name; contiguous, on the CPU.
        path: file to write.
        metadata: texts by name.

    Raises:
        OSError: the file cannot be written.
    """
    folder = path.with_name(f"{path.name}ial") if path.name.endswith(".part") else None
    try:
        if folder is not None:
            folder.mkdir(exist_ok=True)
        target = path if folder is None else folder / "tensors"
        save_file(dict(tensors), target, metadata=None if metadata is None else dict(metadata))
        target.replace(path)
    except SafetensorError as error:
        refused = re.search(r"\(os error (\d+)\)", str(error))
        if refused is None:
            raise
        number = int(refused[1])
        raise OSError(number, os.strerror(number), str(path)) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    if metadata is not None and len(metadata) > 1:
        _sort_metadata(path)


def _sort_metadata(path: Path) -> None:
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise ValueError(
                f"{path}: the header has {size} bytes, sorted it would have {len(text)}"
            )
        file.seek(8)
        file.write(text.ljust(size))
