"""Comparison of two workspaces, byte for byte but for what carries times, paths and processes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

_LEFT_BEHIND = re.compile(
    r"\.(part|partial|replaced|drawn)$|^running/.*\.json$|/state\.safetensors$"
)


def same_results(found: Path, wanted: Path) -> None:
    """Require that two finished workspaces hold the same.

    Args:
        found: workspace of the disturbed run.
        wanted: of the undisturbed one.

    Raises:
        AssertionError: a file differs, is missing, or was left behind.
    """
    ours, theirs = _files(found), _files(wanted)
    left = [name for name in ours if _LEFT_BEHIND.search(name)]
    assert not left, left
    assert ours == theirs, sorted(ours ^ theirs)
    differing = [name for name in sorted(ours) if not same_file(found, wanted, name)]
    assert not differing, differing


def same_file(found: Path, wanted: Path, name: str) -> bool:
    """Whether a file is the same in both workspaces; `name` is its path below them."""
    one, other = found / name, wanted / name
    if not one.exists():
        return False
    for pattern, timeless in TIMELESS.items():
        if re.fullmatch(pattern, name):
            try:
                return bool(timeless(one.read_text()) == timeless(other.read_text()))
            except ValueError:  # it is damaged
                return False
    return one.read_bytes() == other.read_bytes()


def _files(workspace: Path) -> set[str]:
    files = (path for path in workspace.rglob("*") if path.is_file())
    return {str(path.relative_to(workspace)) for path in files}


def _without(*keys: str) -> Callable[[Any], Any]:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(one) for key, one in value.items() if key not in keys}
        return [clean(one) for one in value] if isinstance(value, list) else value

    return clean


def _manifest(text: str) -> Any:
    record = _without("seconds", "finished", "session")(json.loads(text))
    for name in list(record["outputs"]):
        if any(re.fullmatch(pattern, name) for pattern in TIMELESS):
            del record["outputs"][name], record["checksums"][name]
    return record


def _log(text: str) -> Any:
    clean = _without("seconds", "waiting")
    return [clean(json.loads(line)) for line in text.splitlines()]


def _card(text: str) -> list[str]:
    timed = re.compile(r"\| (seconds|waiting|training time) \|")
    return [line for line in text.splitlines() if not timed.match(line)]


def _page(text: str) -> str:
    """The report without seconds, the bars of them, and sizes of files."""
    text = re.sub(r'<rect width="[\d.]+%" height="14"[^>]*>', "", text)
    return re.sub(r"[\d.]+ (s|min|h|MiB|KiB)\b", "", text)


TIMELESS: dict[str, Callable[[str], Any]] = {
    r"manifest/.*\.json": _manifest,
    r"students/[^/]*/(metrics|steps)\.jsonl": _log,
    r"students/[^/]*/card\.md": _card,
    r"report/report\.json": lambda text: _without("seconds", "bytes")(json.loads(text)),
    r"report/index\.html": _page,
    r"config\.yaml": lambda text: _without("workspace")(yaml.safe_load(text)),
}
"""Files that carry seconds, dates or the path of the workspace, and what else they hold; all others
are compared byte for byte."""
