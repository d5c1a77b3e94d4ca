"""Settings of the training: losses, optimizer, schedule, augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pcdistill.distillation.ensemble_settings import (
    PRESETS,
    EnsemblePreset,
    EnsembleSettings,
)
from pcdistill.distillation.schedule import Schedule
from pcdistill.errors import require_setting

Augment = Literal["none", "grid", "full", "reference"]
"""Names of the ways to change a scene."""
BatchOrder = Literal["random", "even", "alike"]
"""Names of the ways to make batches."""


@dataclass(frozen=True)
class TrainerSettings:
    """How a student is trained; the section `distill` of a run's configuration has these keys.

    Raises:
        ConfigError: a value is out of its range; it is named `distill.KEY`.
    """

    voxel_size: float = 0.02
    """Metres."""
    epochs: int = 100
    """Passes over the training scenes."""
    ensemble_preset: EnsemblePreset = "targets"
    """How the temporal ensemble labels, by name. `paper`: as printed (Eq. 11 to 13), labels of the
    student's own past. `release`: as the authors' code, of a past that hardly changes, and without
    the superpoint loss. `targets`: labels of the 2D features that the student learns from, which
    docs/temporal_ensemble.md found to be the better ones. The keys below depart from it."""
    ensemble_start: float | None = None
    """Share of the epochs after which the temporal ensemble joins; as the preset where not given:
    0.7."""
    ensemble_decay: float | None = None
    """Alpha of Eq. 11: how much of the past each update keeps; as the preset where not given. The
    paper gives no number, `paper` takes 0.9; `release` has 0.9999, which the authors' code rounds
    away in half precision; `targets` 1."""
    ensemble_temperature: float | None = None
    """Divides the student's scores before the cross entropy of Eq. 13; as the preset where not
    given: 1 of plain products, 0.1 of cosines in `targets`."""
    ensemble_weight: float | None = None
    """Multiplies the self-distillation loss; as the preset where not given: 1."""
    keep_superpoint_loss: bool | None = None
    """Keep the superpoint loss after `ensemble_start`; as the preset where not given: `release`
    drops it."""
    batch_size: int = 12
    """Scenes per step, of all processes together."""
    learning_rate: float = 1.0e-4
    """The highest; how it changes says `schedule`."""
    final_learning_rate: float = 1.0e-5
    """At the end."""
    schedule: Schedule = "linear"
    """How the learning rate changes with the steps. `linear` falls from the start, as published;
    `one-cycle` rises for 15 % of the steps and then falls by half a cosine, for short trainings;
    `polynomial` is the schedule of the released code, and `released` what that code really does,
    ten times as much (both end at zero)."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """`adam` is Adam, as Table 7 of the paper has it; `adamw`, as its section 4.1 has it, takes
    `weight_decay` off the weights instead of adding it to the gradients. Without any the two are
    the same."""
    weight_decay: float = 0.0
    """How much the weights are pulled to zero at each step, times the learning rate; 0 in the
    paper."""
    accumulate: int = 1
    """Parts that a step is worked on in, one after the other, for batches that do not fit into the
    memory. Losses and gradients are those of the whole step; batch norms take the statistics of a
    part."""
    max_voxels_per_batch: int = 0
    """Voxels that a step works on at once at most, of all processes together; a step with more is
    worked on in as few parts as that takes, each as `accumulate` would have it, instead of running
    out of memory. 0 is no limit."""
    batch_order: BatchOrder = "random"
    """Which scenes share a step: any (`random`, as published); one of each size, so that all steps
    have about as many voxels (`even`); or scenes of about one size, so that processes with a scene
    each wait least for each other (`alike`)."""
    max_gradient_norm: float = 0.0
    """Longer gradients, of all weights together, are shortened to this length; 0 leaves them as
    they are."""
    ema_decay: float = 0.0
    """Of an exponential moving average of the weights over the steps; 0 makes none. Where there is
    one it is what is validated and what answers."""
    adam_beta2: float = 0.999
    """How much of the squared gradients' mean Adam keeps at each step, unitless; a training of some
    hundred steps gets farther with 0.95."""
    max_voxels_per_step: int = 20000
    """Voxels drawn for the losses at each step; 0 takes all."""
    augment: Augment = "full"
    """Change the scenes randomly at each step: `full` turns them by any angle about z and by 2.8
    degrees at most about x and y, and scales them by 0.9 to 1.1; `reference` also distorts, mirrors
    and shifts them, all that the reference loaders name; `grid` turns by multiples of 90 degrees,
    mirrors and tints, for scenes whose walls stand along the axes."""
    revoxelize_every: int = 1
    """Epochs after which a scene is cut into voxels anew, elsewhere; until then the neighbours that
    were found are used again. Matters for `augment: grid` with one scene per step."""
    workers: int = 2
    """Threads that read, change and voxelize the scenes of the next step while the student learns
    from one; 0 for none. The student is the same to the bit."""
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Of the products inside the student while it learns. `auto` takes bfloat16 where the processor
    has it; `float16` is for GPUs without it, and scales the losses so that small gradients are not
    lost. Weights, losses and sums stay in float32."""

    def __post_init__(self) -> None:
        require_setting(self.voxel_size > 0, "distill.voxel_size", "> 0 metres", self.voxel_size)
        require_setting(self.epochs >= 1, "distill.epochs", "at least 1", self.epochs)
        require_setting(
            self.revoxelize_every >= 1,
            "distill.revoxelize_every",
            "at least 1",
            self.revoxelize_every,
        )
        require_setting(self.workers >= 0, "distill.workers", "0 or more", self.workers)
        require_setting(self.batch_size >= 1, "distill.batch_size", "at least 1", self.batch_size)
        ensemble = self.ensemble
        inside = 0 < ensemble.start < 1
        require_setting(inside, "distill.ensemble_start", "between 0 and 1", ensemble.start)
        inside = 0 <= ensemble.decay <= 1
        require_setting(inside, "distill.ensemble_decay", "in [0, 1]", ensemble.decay)
        require_setting(self.learning_rate > 0, "distill.learning_rate", "> 0", self.learning_rate)
        last = self.final_learning_rate
        require_setting(last >= 0, "distill.final_learning_rate", ">= 0", last)
        heat = ensemble.temperature
        require_setting(heat > 0, "distill.ensemble_temperature", "> 0", heat)
        weight = ensemble.weight
        require_setting(weight >= 0, "distill.ensemble_weight", ">= 0", weight)
        rows = self.max_voxels_per_step
        require_setting(rows >= 0, "distill.max_voxels_per_step", "0 (all) or more", rows)
        require_setting(self.weight_decay >= 0, "distill.weight_decay", ">= 0", self.weight_decay)
        inside = 1 <= self.accumulate <= self.batch_size
        words = f"from 1 to distill.batch_size ({self.batch_size})"
        require_setting(inside, "distill.accumulate", words, self.accumulate)
        voxels = self.max_voxels_per_batch
        require_setting(voxels >= 0, "distill.max_voxels_per_batch", "0 (no limit) or more", voxels)
        norm = self.max_gradient_norm
        require_setting(norm >= 0, "distill.max_gradient_norm", "0 (off) or more", norm)
        inside = 0 <= self.ema_decay < 1
        require_setting(inside, "distill.ema_decay", "in [0, 1)", self.ema_decay)
        inside = 0 <= self.adam_beta2 < 1
        require_setting(inside, "distill.adam_beta2", "in [0, 1)", self.adam_beta2)

    @property
    def counts_voxels(self) -> bool:
        """Whether the voxels of all scenes have to be known before the first step."""
        return self.max_voxels_per_batch > 0 or self.batch_order != "random"

    @property
    def ensemble(self) -> EnsembleSettings:
        """Settings of the temporal ensemble: the preset's where no key says otherwise."""
        given = {
            "start": self.ensemble_start,
            "decay": self.ensemble_decay,
            "temperature": self.ensemble_temperature,
            "weight": self.ensemble_weight,
            "keep_superpoint_loss": self.keep_superpoint_loss,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        return replace(PRESETS[self.ensemble_preset], **changes)

    @property
    def ensemble_epoch(self) -> int:
        """Epochs before the temporal ensemble joins: at least one, and at least one after."""
        return max(1, min(round(self.ensemble.start * self.epochs), self.epochs - 1))
