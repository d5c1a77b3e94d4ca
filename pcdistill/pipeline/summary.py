"""Summary of a run: how many units came to which end."""

from __future__ import annotations

from dataclasses import dataclass, field

from pcdistill.pipeline.status import Failure


@dataclass
class RunSummary:
    """What a call of `run_stages` did."""

    done: int = 0
    skipped: int = 0
    """Up to date before."""
    by_others: int = 0
    """Made meanwhile by other runs in the workspace."""
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 when everything asked for is there, whoever made it, else 1."""
        return 1 if self.failures else 0
