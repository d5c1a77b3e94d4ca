"""Findings of an examination of a scan, in words and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Certainty = Literal["sure", "likely", "possible"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a scan, or may be."""

    code: str
    """Short name; the same fault always has the same."""
    message: str
    """What is wrong, in plain words."""
    certainty: Certainty
    evidence: str
    """The number that the certainty rests on."""
    fix: str
    """Setting or action that mends it."""
    lifting_works: bool
    """Whether lifting teachers' features still gives something useful if nothing is done."""
    frames: tuple[str, ...] = ()
    """Names of the frames that it concerns, where it does not concern all."""


@dataclass(frozen=True)
class Diagnosis:
    """Everything an examination of one scan has to say."""

    scan: str
    """Name of the scan."""
    path: str
    findings: tuple[Finding, ...]
    """The surest first."""
    refusals: tuple[str, ...]
    """Why the scan would be refused when it is read, in the words of its reader."""
    looked_at: dict[str, Any]
    """How much was examined, and what was measured where nothing is wrong; JSON values."""

    @property
    def healthy(self) -> bool:
        """Whether nothing is surely wrong."""
        return not any(finding.certainty == "sure" for finding in self.findings)

    @property
    def lifting_works(self) -> bool:
        """Whether the scan can be lifted as it is."""
        return not self.refusals and all(finding.lifting_works for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """JSON values of everything above."""
        return {
            "scan": self.scan,
            "path": self.path,
            "healthy": self.healthy,
            "lifting_works": self.lifting_works,
            "findings": [asdict(finding) for finding in self.findings],
            "refusals": list(self.refusals),
            "looked_at": self.looked_at,
        }


def join_names(names: list[str], limit: int = 5) -> str:
    """A few names in a sentence."""
    return ", ".join(names[:limit]) + (
        f" and {len(names) - limit} more" if len(names) > limit else ""
    )
