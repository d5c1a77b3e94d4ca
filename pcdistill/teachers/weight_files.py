"""Files of weights on this machine: their table, where they are found, and their tensors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pcdistill.errors import ConfigError, MissingWeightsError, UnreadableError, file_trouble
from pcdistill.suggest import look_up
from pcdistill.teachers.digest_cache import remembered_sha256
from pcdistill.teachers.open_clip_models import describe_open_clip, is_open_clip
from pcdistill.teachers.state_dicts import load_state_dict
from pcdistill.teachers.weight_sources import HUB, WEIGHT_FILES, WeightFile

__all__ = [
    "WEIGHTS_VARIABLE",
    "WEIGHT_FILES",
    "WeightFile",
    "WeightProbe",
    "WeightStore",
    "default_weights_folder",
    "files_revision",
    "find_weight_entry",
    "how_to_get",
    "how_to_get_all",
    "is_folder",
    "load_state_dict",
    "missing_parts",
    "require_parts",
]

WEIGHTS_VARIABLE = "PCDISTILL_WEIGHTS"
"""Environment variable that names the folder of weights where a run does not."""
REVISION_DIGITS = 12
"""Digits of a file's SHA-256 that name its revision."""
_READ_BY_LIBRARIES = (".safetensors", ".json", ".txt", ".model")
"""Of a folder in the layout of the Hugging Face hub."""


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
            given: name of an entry of `WEIGHT_FILES` -> file or folder, wherever it is.

        Raises:
            ConfigError: no entry has a name that is given.
        """
        self._folder = None if folder is None else Path(folder).expanduser()
        for name in given or {}:
            if not is_open_clip(name):  # whose package is imported only where it is used
                find_weight_entry(name)
        self.given = {name: Path(path).expanduser() for name, path in (given or {}).items()}

    @property
    def folder(self) -> Path:
        """Where the files are that no run names."""
        return default_weights_folder() if self._folder is None else self._folder

    def find(self, name: str) -> Path:
        """The file or folder of an entry of `WEIGHT_FILES`.

        Raises:
            ConfigError: there is none of that name, the file is not there, or a folder lacks one
                of the files that it must hold.
        """
        known = find_weight_entry(name)
        kind = "folder" if is_folder(known) else "file"
        if name in self.given:
            path = self.given[name]
            if not path.exists():
                raise ConfigError(
                    f"run.weights.{name} is {path}, which does not exist; name the {kind} "
                    f"{known.file_name}, from {known.address}"
                )
            require_parts(known, path)
            return path
        if not known.address:
            raise ConfigError(f"run.weights.{name} is not given ({known.note}); name the file")
        path = self.folder / known.file_name
        if not path.exists():
            raise MissingWeightsError(
                f"{path}: the weights '{name}' are not there; {how_to_get(known, self.folder)}, or "
                f"name the {kind} in run.weights.{name}"
            )
        require_parts(known, path)
        return path

    def revision(self, name: str) -> str:
        """First digits of the SHA-256 of a file of weights.

        Of a folder, of the names, sizes and SHA-256 of what is read of it; see `files_of_model`.

        Raises:
            ConfigError: the file is not there, or the folder not complete.
            UnreadableError: it cannot be read.
        """
        path = self.find(name)
        try:
            if not path.is_dir():
                return _digest(path, *_stamp(path))[:REVISION_DIGITS]
            files = files_of_model(path)
        except OSError as error:
            raise UnreadableError(file_trouble(error, path)) from None
        return files_revision(path, files)

    def provenance(self, name: str) -> dict[str, str]:
        """What a teacher tells of the weights that it uses: file, revision, license, training."""
        known = find_weight_entry(name)
        return {
            "weights": self.find(name).name,
            "revision": self.revision(name),
            "licence": known.license,
            "training": known.training,
            "source": known.address,
        }


class WeightProbe(WeightStore):
    """A store in which nothing is missing, to learn all that something would look for.

    What is built with it cannot be used.
    """

    def __init__(self, store: WeightStore) -> None:
        """Look where `store` looks."""
        super().__init__(store.folder, store.given)
        self.missing: list[str] = []
        """Names of what was looked for and is not there."""

    def find(self, name: str) -> Path:
        """Where the weights are, or would be."""
        try:
            return super().find(name)
        except MissingWeightsError:
            if name not in self.missing:
                self.missing.append(name)
            return self.folder / find_weight_entry(name).file_name

    def revision(self, name: str) -> str:
        """As ever, or nothing where the weights are missing."""
        self.find(name)
        return "" if name in self.missing else super().revision(name)


def how_to_get_all(names: Sequence[str], folder: Path) -> str:
    """Compose what a user does to get several weights into a folder, in one sentence."""
    direct = [name for name in names if find_weight_entry(name).direct]
    others = [name for name in names if name not in direct]
    parts = []
    if direct:
        parts.append(f"`pcdistill weights fetch {' '.join(direct)}` gets what can be fetched")
    for name in others:
        known = find_weight_entry(name)
        terms = " (an account must accept its terms)" if known.gated else ""
        parts.append(f"{known.file_name} is at {known.address}{terms}")
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{folder}: the weights {', '.join(names)} {verb} not there; {'; '.join(parts)}; put them "
        "there or name each file in run.weights"
    )


def find_weight_entry(name: str) -> WeightFile:
    """The entry of weights: one of `WEIGHT_FILES`, or of a model of open_clip.

    Raises:
        ConfigError: there is none of that name.
        MissingExtraError: it is one of open_clip, which is not installed.
    """
    return (
        describe_open_clip(name) if is_open_clip(name) else look_up("weights", name, WEIGHT_FILES)
    )


def how_to_get(known: WeightFile, folder: Path) -> str:
    """Compose what a user does to get a file of weights into a folder."""
    if known.direct:
        return (
            f"get them with `pcdistill weights fetch {known.name}`, or from {known.address} into "
            f"{folder}"
        )
    if not is_folder(known):
        return f"get {known.file_name} from {known.address} into {folder}"
    text = f"get the folder {known.file_name} from {known.address} into {folder}"
    if known.address.startswith(HUB):
        repository = known.address.removeprefix(HUB)
        command = f"hf download {repository} --local-dir {folder / known.file_name}"
        text += f", such as by `{command}`"
    if known.gated:
        text += " with an account that has accepted its terms"
    return text


def is_folder(known: WeightFile) -> bool:
    """Whether the weights are published as a folder; a user's own may still be a file."""
    return bool(known.parts) or (not known.direct and known.address.startswith(HUB))


def missing_parts(known: WeightFile, path: Path) -> tuple[str, ...]:
    """What a folder of weights must hold and does not; nothing for an entry that is a file."""
    return tuple(part for part in known.parts if next(path.glob(part), None) is None)


def require_parts(known: WeightFile, path: Path) -> None:
    """Refuse what is not the folder of an entry, or not all of it.

    Raises:
        ConfigError: it is a file, or something is missing; the text says what and where to get it.
    """
    missing = missing_parts(known, path)
    if not missing:
        return
    found = f"has no {missing[0]}" if path.is_dir() else "is no folder"
    anew = "delete it and " if known.direct else ""
    raise ConfigError(
        f"{path}: {found}, expected the folder of weights '{known.name}' with "
        f"{', '.join(known.parts)}; {anew}{how_to_get(known, path.parent)}"
    )


def files_of_model(folder: Path) -> list[Path]:
    """Files of a folder of weights that are read, in the order of their names.

    Hidden ones are not. Where there are safetensors, libraries read these and texts: the same
    weights in other formats, pictures and documents are left out.

    Raises:
        OSError: the folder cannot be read.
    """
    names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    files = [folder / name for name in names if not any(part[0] == "." for part in name.parts)]
    if any(file.suffix == ".safetensors" for file in files):
        return [file for file in files if file.suffix in _READ_BY_LIBRARIES]
    return files


def files_revision(folder: Path, files: Sequence[Path]) -> str:
    """First digits of the SHA-256 of the names, sizes and SHA-256 of files in a folder.

    Raises:
        UnreadableError: one cannot be read.
    """
    named = sorted((file.relative_to(folder), file) for file in files)
    try:
        lines = [
            f"{name.as_posix()} {_stamp(file)[0]} {_digest(file, *_stamp(file))}\n"
            for name, file in named
        ]
    except OSError as error:
        raise UnreadableError(file_trouble(error, folder)) from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:REVISION_DIGITS]


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _digest(file: Path, _size: int, _time: int) -> str:
    return remembered_sha256(file)
