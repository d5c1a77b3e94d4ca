"""Memory-mapped file of the histories of a training, which a killed process leaves usable.

Behind a head of one page there are two slots for each scene, (R, P) float32 each, with a row for
each of its points or of its superpoints: first all first slots, in the order of the scenes, then
all second ones. A state of the training names the slot that is valid for it. The first update after
a state goes into the other slot, later ones overwrite it, so that what a state names stays as it
was until the next state is written.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pcdistill.distillation.distributed import ALONE, Ranks
from pcdistill.distillation.histories import stored_scores
from pcdistill.errors import TrainingError
from pcdistill.geometry import require_shape

HEAD_BYTES = 4096
_FORMAT = "pcdistill histories 1"
_NONE = -1
_SLOTS, _MARK = "slots", "mark"


class HistoryFile:
    """Histories in one file of all processes of a training.

    Each scene is written by the process that has it, and by no other. What processes have to know
    of each other's scenes, the slot of each, is told by `share`.
    """

    def __init__(
        self,
        path: Path,
        scenes: Sequence[str],
        row_counts: Sequence[int],
        prompts: int,
        ranks: Ranks = ALONE,
        *,
        rows: Literal["points", "superpoints"] = "points",
    ) -> None:
        """Take sizes; `create` or `load` opens the file.

        Args:
            path: of the file; all processes have to see it.
            scenes: names of all scenes.
            row_counts: R of each.
            prompts: P.
            ranks: the processes.
            rows: what they are of, for the head.
        """
        self._path = path
        self._numbers = {name: number for number, name in enumerate(scenes)}
        self._counts = tuple(row_counts)
        self._kind = rows
        self._starts = [0, *accumulate(self._counts)]  # rows before each scene, and all of them
        self._prompts = prompts
        self._ranks = ranks
        self._current = [_NONE] * len(self._counts)  # slot of each scene
        self._named = [_NONE] * len(self._counts)  # by the last state that was written
        self._mark = 0
        self._rows: np.memmap[tuple[int, int], np.dtype[np.float32]] | None = None

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return HEAD_BYTES + 2 * 4 * self._starts[-1] * self._prompts

    def create(self) -> None:
        """Begin a new file without histories; called by all processes.

        Raises:
            TrainingError: the disk has no place for it.
        """
        mark = secrets.randbits(62) if self._ranks.is_first else 0
        self._mark = int(self._ranks.gather([mark])[0, 0])
        if self._ranks.is_first:
            self._write_new()
        self._ranks.wait()
        self._current = [_NONE] * len(self._counts)
        self._named = list(self._current)
        self._open()

    def belongs_to(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the file is the one whose slots a state names, or the state needs none."""
        if _MARK not in state:
            return True
        try:
            with self._path.open("rb") as stream:
                head = stream.read(HEAD_BYTES)
        except OSError:
            return False
        size = self._path.stat().st_size
        return head == self._head(int(state[_MARK])) and size == self.file_bytes

    def get(self, scene: str) -> Tensor | None:
        """(R, P) float32 scores of a scene, mapped; None where it has none yet."""
        number = self._numbers[scene]
        slot = self._current[number]
        return None if slot == _NONE else self._slot(number, slot)

    def put(self, scene: str, scores: Tensor) -> None:
        """Write the scores (R, P) of a scene into the slot that no state names.

        Raises:
            ValueError: the scene has another number of rows.
        """
        number = self._numbers[scene]
        require_shape(f"history of scene '{scene}'", scores, self._counts[number], self._prompts)
        slot = 0 if self._named[number] == _NONE else 1 - self._named[number]
        self._slot(number, slot).copy_(scores)
        self._current[number] = slot

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes that have scores."""
        return tuple(s for s, number in self._numbers.items() if self._current[number] != _NONE)

    @property
    def nbytes(self) -> int:
        """Bytes of all scores together."""
        numbers = [self._numbers[scene] for scene in self.scenes]
        return sum(4 * self._counts[number] * self._prompts for number in numbers)

    def share(self, mine: Sequence[bool]) -> None:
        """Tell all processes in which slot each scene is; what was written is seen by all then.

        Args:
            mine: which scenes this process had so far.
        """
        if self._ranks.is_alone:
            return
        if self._rows is not None:
            self._rows.flush()
        told = [slot + 1 if own else 0 for slot, own in zip(self._current, mine, strict=True)]
        self._current = (self._ranks.gather(told).sum(dim=0) - 1).tolist()
        if self._rows is not None:
            self._open()  # another machine sees what was written only in a file opened later

    def state(self) -> dict[str, Tensor]:
        """Slot of each scene, and the mark of the file; what was written is on the disk then."""
        if self._rows is not None:
            self._rows.flush()
        slots = torch.tensor(self._current, dtype=torch.int8)
        return {_SLOTS: slots, _MARK: torch.tensor(self._mark)}

    def confirm(self) -> None:
        """The state that names the slots of now was written; those of the one before are free."""
        self._named = list(self._current)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on with the slots that a state names; called by all processes.

        A state that holds scores itself, as one of `MemoryHistories`, is written to a new file.

        Raises:
            ValueError: the file is not the one of the state, see `belongs_to`.
        """
        if _MARK not in state:
            self.create()
            for scene, scores in stored_scores(state).items():
                if self._ranks.is_first:
                    self.put(scene, scores)
            self.share([self._ranks.is_first] * len(self._counts))
            return
        if not self.belongs_to(state):
            raise ValueError(f"{self._path} is not the file of histories that the state names")
        self._mark = int(state[_MARK])
        self._current = state[_SLOTS].tolist()
        self._named = list(self._current)
        self._open()

    def _open(self) -> None:
        self._rows = np.memmap(
            self._path,
            np.float32,
            "r+",
            offset=HEAD_BYTES,
            shape=(2 * self._starts[-1], self._prompts),
        )

    def _slot(self, number: int, slot: int) -> Tensor:
        """(R, P) float32, a view of the file."""
        if self._rows is None:
            raise RuntimeError("the file of histories is not open")
        first = slot * self._starts[-1] + self._starts[number]
        return torch.from_numpy(self._rows[first : first + self._counts[number]])

    def _head(self, mark: int) -> bytes:
        content = {
            "format": _FORMAT,
            "mark": mark,
            "scenes": len(self._counts),
            self._kind: self._starts[-1],
            "prompts": self._prompts,
        }
        return json.dumps(content).encode().ljust(HEAD_BYTES)

    def _write_new(self) -> None:
        """Write the head, and reserve the rest: a full disk would kill who writes to a map.

        Raises:
            TrainingError: the disk has no place for it.
        """
        self._path.unlink(missing_ok=True)  # another process may still have it open
        try:
            with self._path.open("wb") as stream:
                stream.write(self._head(self._mark))
                stream.truncate(self.file_bytes)
                stream.flush()
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, self.file_bytes)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise TrainingError(
                f"{self._path}: {self.file_bytes / 2**30:.2f} GiB for the histories of the "
                f"temporal ensemble could not be reserved ({error.strerror or error}); free some "
                "space, or set run.workspace to a larger disk"
            ) from None
