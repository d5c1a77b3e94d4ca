"""Compiled loops work, and give the same, where nothing can be kept on disk."""

from __future__ import annotations

import ast
from pathlib import Path

from numba.core.caching import CacheImpl

from pcdistill.jit import njit

PACKAGE = Path(__file__).resolve().parents[1] / "pcdistill"


def add(a, b):
    return a + b


def test_what_is_compiled_is_kept_where_that_is_possible():
    compiled = njit()(add)
    assert compiled(2, 3) == 5
    assert compiled.stats.cache_path is not None


def test_where_no_folder_can_be_written_it_is_compiled_all_the_same(monkeypatch):
    """As in a read-only installation of a user without a home."""
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    compiled = njit(nogil=True)(add)
    assert compiled(2, 3) == 5
    assert compiled.stats.cache_path is None


def test_every_loop_of_the_package_is_compiled_by_it():
    """numba itself refuses to begin where it cannot keep anything."""
    found = [
        file.relative_to(PACKAGE)
        for file in PACKAGE.rglob("*.py")
        if file.name != "jit.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "cache"
    ]
    assert found == []
