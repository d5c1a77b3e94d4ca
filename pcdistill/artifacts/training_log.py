"""What a training tells while it runs: JSON lines of epochs and steps, and TensorBoard's files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcdistill.artifacts.tensorboard_writer import open_tensorboard
from pcdistill.artifacts.training_files import append_metrics, trim_metrics


class TrainingLog:
    """Log in the folder of a student: `metrics.jsonl`, `steps.jsonl` and `tensorboard/`."""

    def __init__(self, folder: Path, *, steps: bool, tensorboard: bool, writes: bool) -> None:
        """Name the files; nothing is written yet.

        Args:
            folder: of the student.
            steps: write a line of each step, too.
            tensorboard: write TensorBoard's files, of steps and epochs.
            writes: False in those of several processes that write nothing.
        """
        self.metrics = folder / "metrics.jsonl"
        """A line an epoch."""
        self.steps = folder / "steps.jsonl"
        """A line a step."""
        self.takes_steps = steps or tensorboard
        """Whether it wants to be told of steps; the same in all processes."""
        self._line_a_step = steps
        self._folder = folder / "tensorboard"
        self._tensorboard = tensorboard
        self._writes = writes
        self._board: Any = None

    def go_on(self, epochs: int, steps: int, earlier: Path | None = None) -> None:
        """Keep what is told of the part that a training which goes on has behind it.

        Args:
            epochs: that are done.
            steps: that are done.
            earlier: folder of the training that it goes on from, where its own lines are too few.

        Raises:
            MissingExtraError: the package tensorboard is not installed.
        """
        if not self._writes:
            return
        trim_metrics(self.metrics, epochs, None if earlier is None else earlier / "metrics.jsonl")
        if self._line_a_step:
            _trim_steps(self.steps, steps)
        if self._tensorboard:
            self._board = open_tensorboard(self._folder, steps + 1)

    def add_epoch(self, values: Mapping[str, Any], step: int) -> None:
        """Tell of an epoch, after which `step` steps are done."""
        if self._writes:
            append_metrics(self.metrics, values)
            self._draw("epoch", values, step)

    def add_step(self, values: Mapping[str, Any]) -> None:
        """Tell of a step, whose number is `values["step"]`."""
        if self._writes and self._line_a_step:
            append_metrics(self.steps, values)
        if self._writes:
            self._draw("step", values, int(values["step"]))

    def last_epoch(self) -> dict[str, Any]:
        """What was told of the last epoch."""
        values: dict[str, Any] = json.loads(self.metrics.read_text().splitlines()[-1])
        return values

    def close(self) -> None:
        """Write what is still held back."""
        if self._board is not None:
            self._board.close()

    def _draw(self, kind: str, values: Mapping[str, Any], step: int) -> None:
        if self._board is not None:
            for key, value in values.items():
                if key not in ("epoch", "step"):
                    self._board.add_scalar(f"{kind}/{key}", value, step)


def training_seconds(metrics: Path) -> float:
    """Seconds of all epochs of a training, however often it was stopped.

    Epochs that an earlier version trained told of none and count as 0.
    """
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return math.fsum(float(line.get("seconds", 0.0)) for line in lines)


def _trim_steps(path: Path, done: int) -> None:
    """Keep the whole lines of the first `done` steps."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] <= done:
                kept.append(line + "\n")
        except (ValueError, OverflowError, KeyError, TypeError):  # cut when the process was killed
            continue
    path.write_text("".join(kept))
