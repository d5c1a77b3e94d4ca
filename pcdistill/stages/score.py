"""Stage score: capability of each teacher per vocabulary class, on synthesised images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcdistill.artifacts import ScoredTeacher, load_reference_images, write_scores
from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import (
    CapabilityMeter,
    CapabilityTable,
    TeacherScores,
    scores_to_json,
)
from pcdistill.pipeline import (
    Dependency,
    RunContext,
    Stage,
    Task,
    read_provenance,
    synthesis_settings,
)
from pcdistill.teachers import SelectiveTeacher, taught_words, teacher_revision

_MODELS = ("generator", "segmenter")
"""Of the provenance of images, what is the same for all words."""


class ScoreStage(Stage):
    """A unit is a teacher."""

    name = "score"
    version = 4

    def __init__(self, run: RunContext) -> None:
        self._workspace = run.workspace
        self._teachers = run.config.run.teachers
        self._load_teacher = run.teacher
        self._words = run.words
        self._text_encoder = run.text_encoder_mark
        self._pooled = run.config.score.pooled
        self._synthesis = run.config.synthesize
        self._found = run.capability_table

    def units(self) -> tuple[str, ...]:
        """All teachers."""
        return self._teachers

    def settings(self, unit: str) -> Mapping[str, Any]:
        """The teacher and its weights, the words, and how scores are summed up."""
        known = None if self._found is None else self._found.table.teachers[unit]
        return {
            "teacher": unit,
            "revision": teacher_revision(self._load_teacher(unit)),
            "vocabulary": self._words.prompts(self._words.vocabulary),
            "text_encoder": self._text_encoder,
            "pooled": self._pooled,
            "table": None if known is None else scores_to_json(known),
        }

    def inputs(self, unit: str) -> tuple[Dependency, ...]:
        """The reference images of every word; none where the scores are from a table."""
        if self._found is not None:
            return ()
        return tuple(Dependency("synthesize", word) for word in self._words.vocabulary)

    def outputs(self, unit: str) -> tuple[Path, ...]:
        """The teacher's capability."""
        return (self._workspace.capability(unit),)

    def work(self, task: Task, report: ProgressCallback) -> str:
        """Compare a teacher's classes with the pseudo masks of every word (Eq. 1 to 4)."""
        vocabulary = self._words.vocabulary
        prompts = dict(zip(vocabulary, self._words.prompts(vocabulary), strict=True))
        if self._found is None:
            scores, origin = self._measure(task.unit, report), None
            told = read_provenance(self._workspace.reference_images(vocabulary[0]))
            synthesis = {
                "settings": synthesis_settings(self._synthesis),
                "provenance": {key: told[key] for key in _MODELS if key in told},
            }
        else:
            scores, origin = self._found.table.teachers[task.unit], self._found.origin
            synthesis = dict(self._found.table.synthesis)
        table = CapabilityTable(self._text_encoder, prompts, synthesis, {task.unit: scores})
        text_space = self._load_teacher(task.unit).text_space
        scored = ScoredTeacher(task.unit, text_space, self._pooled, origin, table)
        write_scores(self._workspace, scored)
        return scored.sentence()

    def _measure(self, name: str, report: ProgressCallback) -> TeacherScores:
        teacher, vocabulary = self._load_teacher(name), self._words.vocabulary
        meter = CapabilityMeter(len(vocabulary))
        for number, word in enumerate(vocabulary):
            images, masks = load_reference_images(self._workspace, word)
            for image, mask in zip(images, masks, strict=True):
                found = teacher(image).classify(self._words.vocabulary_embeddings) == number
                meter.update(number, found, mask)
            report(number + 1, len(vocabulary), "classes")
        return TeacherScores(
            teacher_revision(teacher),
            dict(zip(vocabulary, meter.overlaps, strict=True)),
            taught_words(teacher, vocabulary),
            isinstance(teacher, SelectiveTeacher),
            teacher.provenance,
        )
