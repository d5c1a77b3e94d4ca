"""Files of weights on this machine: their table, where they are found, and their tensors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pcdistill.checksums import file_sha256
from pcdistill.errors import ConfigError, UnreadableError, file_trouble
from pcdistill.suggest import look_up
from pcdistill.teachers.state_dicts import load_state_dict
from pcdistill.teachers.weight_sources import WEIGHT_FILES, WeightFile

__all__ = [
    "WEIGHTS_VARIABLE",
    "WEIGHT_FILES",
    "WeightFile",
    "WeightStore",
    "default_weights_folder",
    "how_to_get",
    "load_state_dict",
]

WEIGHTS_VARIABLE = "PCDISTILL_WEIGHTS"
"""Environment variable that names the folder of weights where a run does not."""
REVISION_DIGITS = 12
"""Digits of a file's SHA-256 that name its revision."""


def default_weights_folder() -> Path:
    """The folder of the environment variable, else one in the user's cache."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pcdistill" / "weights"


class WeightStore:
    """Files of weights by name: those that a run names, and the others in one folder."""

    def __init__(
        self, folder: str | Path | None = None, given: Mapping[str, str | Path] | None = None
    ) -> None:
        """Look nowhere yet.

        Args:
            folder: with the files under the names that their authors gave them; by default
                `default_weights_folder`.
            given: name of an entry of `WEIGHT_FILES` -> file, wherever it is.

        Raises:
            ConfigError: no entry has a name that is given.
        """
        self._folder = None if folder is None else Path(folder).expanduser()
        for name in given or {}:
            look_up("weights", name, WEIGHT_FILES)
        self.given = {name: Path(path).expanduser() for name, path in (given or {}).items()}

    @property
    def folder(self) -> Path:
        """Where the files are that no run names."""
        return default_weights_folder() if self._folder is None else self._folder

    def find(self, name: str) -> Path:
        """The file or folder of an entry of `WEIGHT_FILES`.

        Raises:
            ConfigError: there is none of that name, or the file is not there.
        """
        known = look_up("weights", name, WEIGHT_FILES)
        if name in self.given:
            path = self.given[name]
            if not path.exists():
                raise ConfigError(
                    f"run.weights.{name} is {path}, which does not exist; name the file "
                    f"{known.file_name}, from {known.address}"
                )
            return path
        path = self.folder / known.file_name
        if not path.exists():
            raise ConfigError(
                f"{path}: the weights '{name}' are not there; {how_to_get(known, self.folder)}, or "
                f"name the file in run.weights.{name}"
            )
        return path

    def revision(self, name: str) -> str:
        """First digits of the SHA-256 of a file of weights; of a folder, of all files in it.

        Raises:
            ConfigError: the file is not there.
            UnreadableError: it cannot be read.
        """
        path = self.find(name)
        files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
        try:
            digests = [_digest(file, *_stamp(file)) for file in files]
        except OSError as error:
            raise UnreadableError(file_trouble(error, path)) from None
        return digests[0][:REVISION_DIGITS] if len(files) == 1 else _joined(digests)

    def provenance(self, name: str) -> dict[str, str]:
        """What a teacher tells of the weights that it uses: file, revision, license, training."""
        known = look_up("weights", name, WEIGHT_FILES)
        return {
            "weights": self.find(name).name,
            "revision": self.revision(name),
            "licence": known.license,
            "training": known.training,
            "source": known.address,
        }


def how_to_get(known: WeightFile, folder: Path) -> str:
    """Compose what a user does to get a file of weights into a folder."""
    if known.direct:
        return (
            f"get them with `pcdistill weights fetch {known.name}`, or from {known.address} into "
            f"{folder}"
        )
    return f"get {known.file_name} from {known.address} into {folder}"


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _digest(file: Path, _size: int, _time: int) -> str:
    return file_sha256(file)


def _joined(digests: list[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:REVISION_DIGITS]
