"""Stage score: capability of each teacher per vocabulary class, on synthesised images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcdistill.artifacts import load_reference_images
from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import CapabilityMeter
from pcdistill.pipeline import Dependency, RunContext, Stage, Task, write_json
from pcdistill.teachers import SelectiveTeacher, taught_words, teacher_revision


class ScoreStage(Stage):
    """A unit is a teacher."""

    name = "score"
    version = 3

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._teachers = run.config.run.teachers
        self._load_teacher = run.teacher
        self._words = run.words
        self._text_encoder = run.text_encoder_mark
        self._pooled = run.config.score.pooled

    def units(self) -> tuple[str, ...]:
        """All teachers."""
        return self._teachers

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The teacher and its weights, the words, and how scores are summed up."""
        return {
            "teacher": unit,
            "revision": teacher_revision(self._load_teacher(unit)),
            "vocabulary": self._words.prompts(self._words.vocabulary),
            "text_encoder": self._text_encoder,
            "pooled": self._pooled,
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """The reference images of every word."""
        return tuple(Dependency("synthesize", word) for word in self._words.vocabulary)

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The teacher's capability."""
        return (self._workspace.capability(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Compare a teacher's classes with the pseudo masks of every word (Eq. 1 to 4)."""
        teacher, vocabulary = self._load_teacher(task.unit), self._words.vocabulary
        meter = CapabilityMeter(len(vocabulary))
        for number, word in enumerate(vocabulary):
            images, masks = load_reference_images(self._workspace, word)
            for image, mask in zip(images, masks, strict=True):
                found = teacher(image).classify(self._words.vocabulary_embeddings) == number
                meter.update(number, found, mask)
            report(number + 1, len(vocabulary), "classes")
        scores = meter.scores(pooled=self._pooled).tolist()
        table = dict(zip(vocabulary, scores, strict=True))
        write_json(
            self._workspace.capability(task.unit),
            {
                "teacher": task.unit,
                "text_space": teacher.text_space,
                "capability": table,
                "taught": taught_words(teacher, vocabulary),
                "selective": isinstance(teacher, SelectiveTeacher),
                "pooled": self._pooled,
                "provenance": teacher.provenance,
            },
        )
        best, worst = max(table, key=table.__getitem__), min(table, key=table.__getitem__)
        mean = sum(scores) / len(scores)
        return (
            f"mean {mean:.2f}, best {best} {table[best]:.2f}, least {worst} {table[worst]:.2f} "
            f"over {len(scores)} classes"
        )
