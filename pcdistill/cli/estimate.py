"""What the training of a run would cost, as a table."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from pcdistill.cli.training_cost import TrainingCost, estimate_training
from pcdistill.pipeline import RunConfig, RunContext

_DAY = 24


def print_estimate(config: RunConfig, console: Console) -> int:
    """Print steps, time, memory and disk of each student; returns the exit status.

    Raises:
        ArtifactError: no scene to learn from is stored yet.
    """
    run = RunContext(config)
    run.validate()
    if config.distill.pretrained is not None:
        console.print("the run takes a student that is trained already, so there is no training")
        return 0
    console.print("timing two steps of training", markup=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("student", "scenes", "steps", "s/step", "time", "memory", "disk"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "student" else "right")
    for cost in estimate_training(run):
        table.add_row(*in_words(cost))
    console.print(table)
    console.print(
        "Measured on this machine with scenes of middle size; memory is that of one process with "
        "all scenes to learn from. What the temporal ensemble adds to a step, and validation, are "
        "not in the time.",
        markup=False,
    )
    return 0


def in_words(cost: TrainingCost) -> tuple[str, ...]:
    """The row of one student."""
    hours = cost.hours
    if hours >= 2 * _DAY:
        time = f"{hours / _DAY:.1f} days"
    else:
        time = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    return (
        cost.student,
        str(cost.scenes),
        str(cost.steps),
        f"{cost.seconds_per_step:.2f}",
        time,
        f"{cost.memory_gib:.1f} GiB",
        f"{cost.disk_bytes / 2**30:.2f} GiB",
    )
