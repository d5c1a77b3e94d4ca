"""Which row of the results was measured best."""

from __future__ import annotations

from collections.abc import Sequence

from pcdistill.stages.files import read_json
from pcdistill.stages.workspace import Workspace


def best_measured(workspace: Workspace, rows: Sequence[str]) -> str | None:
    """The row with the highest mIoU, the later one of equals; None where none was measured.

    Raises:
        ArtifactError: what stage evaluate wrote of a row is damaged.
    """
    measured = []
    for number, row in enumerate(rows):
        path = workspace.evaluation(row) / "result.json"
        miou = read_json(path)["miou"] if path.exists() else None
        if miou is not None:
            measured.append((miou, number, row))
    return max(measured)[2] if measured else None
