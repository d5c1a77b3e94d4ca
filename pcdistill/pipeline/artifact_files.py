"""Reading and writing of artefact files: JSON, and safetensors with their provenance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pcdistill.atomic_io import atomic_file, require_readable
from pcdistill.errors import ArtifactError, UnreadableError, file_trouble


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    with atomic_file(path) as temporary, temporary.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True)  # piece by piece: it may be large
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON artefact.

    Raises:
        ArtifactError: the file is missing or is not JSON.
        UnreadableError: it cannot be read.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run the stage that makes it") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    except ValueError as error:
        raise ArtifactError(
            f"{path} is not readable JSON ({error}); delete it and run again"
        ) from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> None:
    """Write tensors as safetensors with their provenance in the header, whole or not at all.

    Args:
        path: file to write.
        tensors: by name; on any device.
        provenance: JSON values.
    """
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    header = {"provenance": json.dumps(dict(provenance), sort_keys=True)}
    with atomic_file(path) as temporary:
        save_file(contiguous, temporary, metadata=header)


def read_tensors(path: Path, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Read the named tensors (all by default) of a safetensors artefact.

    Raises:
        ArtifactError: the file is missing, damaged, or lacks one of `names`.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        present = set(archive.keys())
        wanted = present if names is None else set(names)
        if missing := wanted - present:
            raise ArtifactError(
                f"{path} lacks {', '.join(sorted(missing))}; delete it and run again"
            )
        return {key: archive.get_tensor(key) for key in wanted}


def read_rows(path: Path, name: str, rows: Sequence[int]) -> Tensor:
    """Read some rows of a tensor of a safetensors artefact, and nothing else of it.

    Args:
        path: the file.
        name: of the tensor.
        rows: which, in any order.

    Raises:
        ArtifactError: the file is missing, damaged, or lacks the tensor.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        if name not in set(archive.keys()):
            raise ArtifactError(f"{path} lacks {name}; delete it and run again")
        stored = archive.get_slice(name)
        found = [stored[row : row + 1] for row in rows]
        return torch.cat(found) if found else stored[0:0]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors artefact, by name; only its head is read.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        return {key: tuple(archive.get_slice(key).get_shape()) for key in archive.keys()}  # noqa: SIM118


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance that `write_tensors` put into a file's header.

    Raises:
        ArtifactError: the file is missing or damaged.
        UnreadableError: it cannot be read.
    """
    with _opened(path) as archive:
        header = archive.metadata() or {}
    provenance: dict[str, Any] = json.loads(header.get("provenance", "{}"))
    return provenance


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; see `read_tensors` for what is raised."""
    try:
        require_readable(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run the stage that makes it") from None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    try:
        with safe_open(path, framework="pt") as archive:
            yield archive
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from None
