"""Optional packages that only some files need: imported when one is read or written."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pcdistill.errors import MissingExtraError


def import_extra(file: Path | str, module: str, extra: str, otherwise: str) -> Any:
    """Import what reads or writes a file.

    Args:
        file: what is to be read or written, or the option that asks for it.
        module: name of the module.
        extra: the optional dependency of pcdistill that brings it.
        otherwise: what the user can do without it, such as "convert the file to .ply".

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{file}: needs the package {module}, which is not installed; "
            f"`pip install 'pcdistill[{extra}]'`, or {otherwise}"
        ) from error
