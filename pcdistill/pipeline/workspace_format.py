"""Version of a workspace's layout: what a newer version wrote is refused, what an older one, kept.

1 (the first with a file of its own): manifest entries have checksums. Before it there was none, and
its entries, which have sizes only, are read as they are; the next run writes the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pcdistill.atomic_io import atomic_file
from pcdistill.errors import ConfigError, UnreadableError, file_trouble
from pcdistill.version import __version__

FORMAT = 1
FILE = "workspace.json"
_MAX_BYTES = 1 << 16


def require_known_format(root: Path) -> None:
    """Refuse a workspace that this version does not understand.

    Args:
        root: its folder; where there is none yet, or not as this version makes it, all is well.

    Raises:
        ConfigError: a newer version wrote it, or the file that says so is damaged.
        UnreadableError: that file cannot be read.
    """
    found = _stored(root)
    if found is not None and found["format"] > FORMAT:
        raise ConfigError(
            f"{root}: is a workspace of a newer pcdistill ({found.get('pcdistill', 'unknown')}, "
            f"format {found['format']}), this is {__version__}, which reads format {FORMAT} and "
            "earlier ones; install the newer one, or name another folder with --workspace"
        )


def write_format(root: Path) -> None:
    """Note the version of the layout, once the workspace is claimed."""
    found = _stored(root)
    if found is None or found["format"] != FORMAT:
        with atomic_file(root / FILE) as temporary:
            text = json.dumps({"format": FORMAT, "pcdistill": __version__}, indent=1)
            temporary.write_text(text + "\n")


def _stored(root: Path) -> dict[str, Any] | None:
    """What the file says; None where there is none."""
    path = root / FILE
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
        if type(content["format"]) is not int or content["format"] < 1:
            raise ValueError
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableError(file_trouble(error, path)) from None
    except (ValueError, OverflowError, TypeError, KeyError, RecursionError):
        raise ConfigError(
            f"{path}: is damaged, expected the format of the workspace; delete it, and the next "
            "run writes it anew"
        ) from None
    found: dict[str, Any] = content
    return found
