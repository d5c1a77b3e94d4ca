"""Generated images of some words with heat map, coarse mask, pseudo mask and teachers' masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from pcdistill.artifacts import (
    ReferenceFacts,
    ReferenceViews,
    RunArtifacts,
    load_reference_facts,
    load_reference_views,
)
from pcdistill.callbacks import ProgressCallback
from pcdistill.capability import coarse_mask, mask_iou
from pcdistill.reporting.report_data import ClassExamples, ExampleTile, ReferenceSheet
from pcdistill.visualization import draw_heat, draw_mask, fit_width

SAMPLES = 2
"""Images of a word that are shown."""
TILE_WIDTH = 240
"""Pixels across at most; a tile is about 8 kB of the page."""


def reference_sheet(
    run: RunArtifacts, measured: Tensor, classes: int, report: ProgressCallback
) -> ReferenceSheet | None:
    """Draw examples of the words on which the teachers differ most.

    Teachers look at the images again: their masks are not stored.

    Args:
        run: whose reference images are drawn.
        measured: (T, K) float in [0, 1], the teachers' capability.
        classes: how many words at most.
        report: called after every word.

    Returns:
        None where nothing is to be shown, or the run has no images because its capability was
        given to it.
    """
    words = run.words.vocabulary
    if not run.teachers or classes < 1:
        return None
    known = {word: load_reference_facts(run.workspace, word) for word in words}
    there = {word: facts for word, facts in known.items() if facts is not None}
    if not there:
        return None
    ordered = _by_difference(words, measured)
    chosen = [word for word in ordered if word in there and there[word].kept][:classes]
    shown = []
    for number, word in enumerate(chosen):
        shown.append(_examples(run, word, there[word]))
        report(number + 1, len(chosen), "words with examples")
    return ReferenceSheet(_summary(there), tuple(shown))


def _by_difference(words: Sequence[str], measured: Tensor) -> list[str]:
    """Words from that on which the teachers differ most; of equal ones the first goes first."""
    values = measured.nan_to_num(0.0)
    apart = (values.amax(dim=0) - values.amin(dim=0)).tolist()
    return [words[k] for k in sorted(range(len(words)), key=lambda k: -apart[k])]


def _summary(known: Mapping[str, ReferenceFacts]) -> str:
    total = sum(facts.drawn for facts in known.values())
    reasons: Counter[str] = Counter()
    by_word: dict[str, int] = {}
    for word, facts in known.items():
        for reason, numbers in facts.left_out.items():
            reasons[reason] += len(numbers)
            by_word[word] = by_word.get(word, 0) + len(numbers)
    if not reasons:
        return f"Of {total} images none was left out."
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    words = ", ".join(f"{word} {count}" for word, count in by_word.items())
    return f"Of {total} images {sum(by_word.values())} were left out: {counted}; by word: {words}."


def _examples(run: RunArtifacts, word: str, facts: ReferenceFacts) -> ClassExamples:
    views = load_reference_views(run.workspace, word)
    shown = range(len(views.images))[:SAMPLES]
    return ClassExamples(
        word, _note(facts), tuple(_tiles(run, word, facts, views, index) for index in shown)
    )


def _note(facts: ReferenceFacts) -> str:
    """Which images there are; numbers begin with 1 here."""
    if not facts.left_out:
        return f"{facts.drawn} images, none left out."
    lacking = "; ".join(
        f"{', '.join(str(number + 1) for number in numbers)} ({reason})"
        for reason, numbers in facts.left_out.items()
    )
    return f"{facts.drawn} images, left out: number {lacking}."


def _tiles(
    run: RunArtifacts, word: str, facts: ReferenceFacts, views: ReferenceViews, index: int
) -> tuple[ExampleTile, ...]:
    """The views of one image.

    Args:
        run: its teachers and words.
        word: what the image is of.
        facts: how its coarse mask was made.
        views: the images of the word.
        index: which of them.
    """
    image, pseudo = views.images[index], views.masks[index]
    photo = image.permute(1, 2, 0)  # (H, W, 3)
    heat = views.attention[index].float()
    coarse = coarse_mask(heat, facts.threshold, clean_border=facts.clean_border)
    tiles = [
        ExampleTile("image", photo),
        ExampleTile("heat map", draw_heat(photo, heat)),
        ExampleTile(f"coarse mask, above {facts.threshold:g}", draw_mask(photo, coarse)),
        ExampleTile(f"pseudo mask of {facts.segmenter}", draw_mask(photo, pseudo)),
    ]
    number = run.words.vocabulary.index(word)
    for name in run.teachers:
        teacher = run.point_features.load_teacher(name)
        seen = teacher(image).classify(run.words.vocabulary_embeddings) == number
        overlap = 100 * float(mask_iou(seen, pseudo))
        tiles.append(ExampleTile(f"{name}, IoU {overlap:.0f}\u00a0%", draw_mask(photo, seen)))
    return tuple(ExampleTile(tile.caption, fit_width(tile.image, TILE_WIDTH)) for tile in tiles)
