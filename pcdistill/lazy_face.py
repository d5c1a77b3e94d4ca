"""Lazy faces of packages: names that load their module when they are first asked for."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_face(package: str, file: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package whose `__init__` imports its face for type checkers only.

    Args:
        package: `__name__` of the package.
        file: `__file__` of it; the imports in its block `if TYPE_CHECKING:` are the face.

    Returns:
        a function that loads a name of the face (PEP 562).
    """
    homes: dict[str, str] = {}

    def load(name: str) -> Any:
        if not homes:
            homes.update(_imported_names(Path(file)))
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(homes[name]), name)

    return load


def _imported_names(file: Path) -> dict[str, str]:
    """Name -> module, of the imports for type checkers."""
    return {
        alias.name: node.module
        for block in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
