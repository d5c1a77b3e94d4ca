"""Issues of a scan: raised when it is read for work, collected when it is examined."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from pcdistill.errors import SceneError


class SceneIssue(NamedTuple):
    """Why a scan would not have been opened."""

    code: str
    """What is wrong, one word or a few joined by underscores; a code of `pcdistill doctor`."""
    message: str


_COLLECTED: ContextVar[list[SceneIssue] | None] = ContextVar("collected refusals", default=None)


def report_issue(about: str, sentence: str) -> None:
    """Refuse the scan that is being read, for a reason under which reading could go on.

    Args:
        about: what is wrong, as in `SceneIssue`.
        sentence: which file, what was found, what was expected, what to do.

    Raises:
        SceneError: always, except inside `collect_issues`.
    """
    collected = _COLLECTED.get()
    if collected is None:
        raise SceneError(sentence)
    collected.append(SceneIssue(about, sentence))


def is_examination() -> bool:
    """Whether the scan is opened to be looked at, faults and all, inside `collect_issues`."""
    return _COLLECTED.get() is not None


@contextmanager
def collect_issues() -> Iterator[list[SceneIssue]]:
    """Collect issues of scans opened inside, rather than raise them (`report_issue`).

    Such a scene breaks promises of `Scene` and `Frame`, and is for looking at only.
    """
    collected: list[SceneIssue] = []
    token = _COLLECTED.set(collected)
    try:
        yield collected
    finally:
        _COLLECTED.reset(token)
