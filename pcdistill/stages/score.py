"""Stage score: each teacher's skill per vocabulary class, measured on synthesised images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcdistill.artifacts import load_reference_images
from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import CapabilityMeter
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_json
from pcdistill.teachers import taught_words


def _settings(run: RunContext, teacher: str) -> Mapping[str, Any]:
    return {
        "teacher": teacher,
        "revision": run.teacher_revision(teacher),
        "vocabulary": run.prompts(run.vocabulary),
        "text_encoder": run.config.run.text_encoder,
        "pooled": run.config.score.pooled,
    }


def _work(run: RunContext, task: Task, report: ProgressCallback) -> str:
    teacher = run.teacher(task.unit)
    meter = CapabilityMeter(len(run.vocabulary))
    for number, word in enumerate(run.vocabulary):
        images, masks = load_reference_images(run, word)
        for image, mask in zip(images, masks, strict=True):
            found = teacher(image).classify(run.vocabulary_embeddings) == number
            meter.update(number, found, mask)
        report(number + 1, len(run.vocabulary), "classes")
    scores = meter.scores(pooled=run.config.score.pooled).tolist()
    table = dict(zip(run.vocabulary, scores, strict=True))
    write_json(
        run.workspace.capability(task.unit),
        {
            "teacher": task.unit,
            "text_space": teacher.text_space,
            "capability": table,
            "taught": taught_words(teacher, run.vocabulary),
            "pooled": run.config.score.pooled,
            "provenance": teacher.provenance,
        },
    )
    best, worst = max(table, key=table.__getitem__), min(table, key=table.__getitem__)
    mean = sum(scores) / len(scores)
    return (
        f"mean {mean:.2f}, best {best} {table[best]:.2f}, least {worst} {table[worst]:.2f} "
        f"over {len(scores)} classes"
    )


def _units(run: RunContext) -> tuple[str, ...]:
    return run.config.run.teachers


def _inputs(run: RunContext, teacher: str) -> tuple[Dependency, ...]:
    return tuple(Dependency("synthesize", word) for word in run.vocabulary)


def _outputs(run: RunContext, teacher: str) -> tuple[Path, ...]:
    return (run.workspace.capability(teacher),)


SCORE = Stage(
    name="score",
    version=2,
    units=_units,
    settings=_settings,
    inputs=_inputs,
    outputs=_outputs,
    work=_work,
)
