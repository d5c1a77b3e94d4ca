"""What a training tells of each step and epoch."""

from __future__ import annotations

from typing import NamedTuple


class EpochResult(NamedTuple):
    """Losses of one epoch, and what it took."""

    epoch: int
    """Number of epochs done, from 1."""
    loss: float
    """Mean distillation loss."""
    ensemble_loss: float
    """Mean self-distillation loss; 0 before it joins."""
    learning_rate: float
    """Of the last step."""
    gradient_norm: float
    """Mean length of the gradient of a step, before it is clipped."""
    voxels: int
    """That the student was given, of all processes."""
    seconds: float
    """Of all steps."""
    waiting: float
    """Seconds of these that passed until the batches were there."""


class StepResult(NamedTuple):
    """Losses of one step, of all processes, and what it took."""

    epoch: int
    """Number of the epoch, from 1."""
    step: int
    """Number of the step in the training, from 1."""
    loss: float
    """Distillation loss."""
    ensemble_loss: float
    """Self-distillation loss; 0 before it joins."""
    learning_rate: float
    gradient_norm: float
    """Length of the gradient, before it is clipped."""
    voxels: int
    """That the student was given, of all processes."""
    seconds: float
    """In the first process."""
    waiting: float
    """Seconds of these that passed until the batch was there."""
