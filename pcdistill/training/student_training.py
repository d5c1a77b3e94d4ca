"""Training of one student, which goes on from its last state until it is finished."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import NamedTuple

from pcdistill.artifacts import TrainingLog, load_training_state
from pcdistill.callbacks import ProgressCallback
from pcdistill.distillation import BestWeights, EpochResult, StepResult, Trainer, current_ranks
from pcdistill.inference import StudentValidation, require_finite_loss
from pcdistill.pipeline import TERMINATED, noted_sigterm, write_tensors

_LOG = logging.getLogger(__name__)

_STATE = "state.safetensors"
_STATE_EVERY = 15.0
"""Seconds between half-way states, written when an epoch ends."""
_STATE_WITHIN_EPOCH = 600.0
"""Seconds after which one is written within an epoch."""


class HandOver(NamedTuple):
    """State of one student from which another goes on."""

    path: Path
    """Of its file, in the folder of the student that gives it."""
    epoch: int
    """Epochs after which it is given."""
    giver: str
    """Name of that student."""
    task: str
    """Fingerprint of that student's training."""


class StudentTraining:
    """Training in the folder of a student, where its state is while it learns.

    Of several processes the first writes; every method is called by all of them.
    """

    def __init__(
        self,
        student: str,
        trainer: Trainer,
        log: TrainingLog,
        validation: StudentValidation | None,
        *,
        folder: Path,
        task: str,
        epochs: int,
        validate_every: int,
        gives: HandOver | None = None,
        takes: HandOver | None = None,
    ) -> None:
        """Take the parts.

        Args:
            student: its name.
            trainer: has not learned yet.
            log: where epochs and steps are told.
            validation: what measures it; None where nothing does.
            folder: of the student.
            task: fingerprint of this training, which its states carry.
            epochs: of all.
            validate_every: epochs after which it is measured; 0 for never.
            gives: what another student goes on from.
            takes: what this one goes on from.
        """
        self._student = student
        self._trainer = trainer
        self._log = log
        self._validation = validation
        self._state_path = folder / _STATE
        self._task = task
        self._epochs = epochs
        self._validate_every = validate_every
        self._gives = gives
        self._takes = takes
        self.best = BestWeights()
        """Weights that were measured best."""

    def resume(self) -> None:
        """Load the half-way state of the same task, or what another student handed over."""
        trainer, required = self._trainer, self._trainer.required_shapes()
        state = load_training_state(self._state_path, self._task, required)
        if state is not None and not trainer.has_histories_of(state):
            _LOG.warning(
                "%s: its histories are missing, of another training or as an earlier version wrote "
                "them; it is not gone on from",
                self._state_path,
            )
            state = None
        takes = self._takes
        if state is None and takes is not None:
            state = load_training_state(takes.path, takes.task, required)
            if state is None or int(state["epoch"]) != takes.epoch:
                state = None  # it gives the same student, only later
                _LOG.warning(
                    "%s: is not what student %s of this run hands over; %s learns from the start",
                    *(takes.path, takes.giver, self._student),
                )
        if state is not None:
            trainer.load_state(state)
            self.best.load_state(state)
        current_ranks().require_same(trainer.epoch, str(self._state_path))
        earlier = None if takes is None else takes.path.parent
        self._log.go_on(trainer.epoch, trainer.steps_done, earlier)

    def run(self, report: ProgressCallback) -> EpochResult | None:
        """Train to the end; returns what the last epoch gave, None where none was left.

        After SIGTERM the state is written at the next step, and the process ends.

        Raises:
            TrainingError: the loss is not finite.
            SystemExit: SIGTERM came.
        """
        trainer, ranks, gives = self._trainer, current_ranks(), self._gives
        saved, result = time.monotonic(), None

        def pause() -> bool:
            return stop.came or (ranks.is_first and time.monotonic() - saved > _STATE_WITHIN_EPOCH)

        def note(step: StepResult) -> None:
            self._log.add_step(step._asdict())

        with noted_sigterm() as stop:
            while not trainer.finished:
                outcome = trainer.train_epoch(pause, note if self._log.takes_steps else None)
                if outcome is not None:
                    result = outcome
                    self._end_epoch(outcome, report)
                    if gives is not None and outcome.epoch == gives.epoch:
                        self._save(gives.path)
                ends = ranks.any(stop.came)
                late = ranks.any(ranks.is_first and time.monotonic() - saved > _STATE_EVERY)
                if ends or ((late or outcome is None) and not trainer.finished):
                    self._save(self._state_path)
                    trainer.confirm_state()
                    saved = time.monotonic()
                if ends:
                    self._end_early()
        return result

    def remove_state(self) -> None:
        """Forget what is only needed half-way."""
        self._state_path.unlink(missing_ok=True)

    def _end_epoch(self, result: EpochResult, report: ProgressCallback) -> None:
        require_finite_loss(self._student, result)
        measured = self._validate()
        self._log.add_epoch(result._asdict() | measured, self._trainer.steps_done)
        report(result.epoch, self._epochs, f"epochs, loss {result.loss:.3f}")

    def _end_early(self) -> None:
        if current_ranks().is_first:
            _LOG.warning(
                "student %s: SIGTERM came after %d of %d epochs; the same command goes on from "
                "there",
                *(self._student, self._trainer.epoch, self._epochs),
            )
        raise SystemExit(TERMINATED)

    def _save(self, path: Path) -> None:
        state = self._trainer.state()
        if current_ranks().is_first:
            write_tensors(path, state | self.best.state(), {"task": self._task})

    def _validate(self) -> dict[str, float]:
        """Measure the student where that is due, and keep the best; returns what was found."""
        trainer, every = self._trainer, self._validate_every
        due = every and trainer.epoch % every == 0
        if self._validation is None or not (due or trainer.finished):
            return {}
        with trainer.answering():
            found = self._validation.measure(trainer.network)
            self.best.offer(found.miou, trainer.epoch, trainer.network)
        return {"validation_miou": found.miou, "validation_macc": found.macc}
