"""Interface of readers: scan, reader, and the settings that a layout does not take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pcdistill.errors import ConfigError
from pcdistill.scenes.reader_settings import ReaderSettings
from pcdistill.scenes.scene import Scene


class Scan(NamedTuple):
    """One scan on disk."""

    name: str
    """What the scene will be called; a valid file name, unique among its neighbours."""
    folder: Path
    """Folder (or file) that holds it."""
    part: str = ""
    """Which of several scans in `folder`, in the layout's own words; empty where it is the one."""


class Refusal(NamedTuple):
    """Why a layout does not take a setting."""

    sentence: str
    """The message, a format of the scan's `folder` and the setting's `name` and `value`."""
    allowed: tuple[Any, ...] = ()
    """Values that are taken besides the default: they ask for what the layout does anyway."""


def refuse_all_but(*taken: str) -> dict[str, Refusal]:
    """Refusals of all settings but a few; `label_set` comes with every run and may be set."""
    sentence = (
        "{folder}: `{name}` has no meaning for a scan of this layout, expected only "
        f"{', '.join(taken)}; leave it out"
    )
    known = (field.name for field in fields(ReaderSettings))
    return {name: Refusal(sentence) for name in known if name not in (*taken, "label_set")}


class Division(NamedTuple):
    """What the files of a scan tell, by their names, of training and measuring."""

    labelled: bool
    """Whether the scan has true labels, and what they belong to."""
    side: str = ""
    """`train`, `val` or `test` where the data set itself puts the scan there; empty where it does
    not say it, or in a list beside the data (`Reader.lists`)."""


class Reader(NamedTuple):
    """One layout of scans on disk."""

    required_files: str
    """What a folder must have, for the message where no reader fits."""
    find: Callable[[Path], Sequence[Scan]]
    """Scans of this layout in a folder: the folder itself, or those of a data set whose root it
    is; none where it is another layout. Looks at names only, and takes no time."""
    open: Callable[[Scan, ReaderSettings], Scene]
    """Read one scan; images stay on disk until they are asked for."""
    files: Callable[[Scan], Sequence[Path]] | None = None
    """Files and folders that a scan is read from, where they are not just its folder: a scan is
    read again when one of them changes."""
    division: Callable[[Scan], Division] | None = None
    """For layouts whose scans may have true labels; takes no time worth mentioning."""
    lists: Mapping[str, str] = MappingProxyType({})
    """Side of a division -> published text file, beside the data, with the names of its scans."""
    measured: tuple[str, ...] = ("val", "test")
    """Sides on which the data set's published numbers are measured; the first that is there."""
    settings: Mapping[str, Refusal] = MappingProxyType({})
    """Name of a setting that this layout does not take -> why; checked before a scan is opened."""

    def require_taken(self, scan: Scan, settings: ReaderSettings) -> None:
        """Refuse settings that this layout does not take, rather than ignore them.

        Raises:
            ConfigError: one of them differs from its default.
        """
        plain = ReaderSettings()
        for name, refusal in self.settings.items():
            value = getattr(settings, name)
            if value not in (getattr(plain, name), *refusal.allowed):
                raise ConfigError(
                    refusal.sentence.format(folder=scan.folder, name=name, value=value)
                )
