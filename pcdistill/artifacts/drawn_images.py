"""Images of a class that are drawn while others are not: kept until the class is whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcdistill.capability import GeneratedImage
from pcdistill.errors import ArtifactError, UnreadableError
from pcdistill.pipeline import read_provenance, read_tensors, write_tensors


class DrawnImages:
    """One file an image, read only where it was drawn with the same settings."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Look nowhere yet.

        Args:
            folder: of the files of one class.
            settings: JSON values that its images depend on.
        """
        self._folder = folder
        self._settings = dict(settings)

    def read(self, numbers: Sequence[int]) -> list[GeneratedImage] | None:
        """Read some images; None where not all of them are there, or one was drawn otherwise.

        Raises:
            UnreadableError: a file is there but cannot be read.
        """
        found = []
        for number in numbers:
            file = self._file(number)
            if not file.exists():
                return None
            try:
                if read_provenance(file) != {**self._settings, "number": number}:
                    return None
                tensors = read_tensors(file, ("image", "attention"))
            except UnreadableError:
                raise
            except ArtifactError:
                return None  # damaged: drawn again
            found.append(GeneratedImage(tensors["image"], tensors["attention"]))
        return found

    def write(self, numbers: Sequence[int], images: Sequence[GeneratedImage]) -> None:
        """Write some images, each whole or not at all."""
        for number, image in zip(numbers, images, strict=True):
            provenance = {**self._settings, "number": number}
            write_tensors(self._file(number), image._asdict(), provenance)

    def clear(self) -> None:
        """Delete all, once the class is whole."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"
