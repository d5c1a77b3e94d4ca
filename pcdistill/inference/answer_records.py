"""Answers as records and rows, for JSON and CSV, and the sentence where there is none."""

from __future__ import annotations

from typing import Any

from pcdistill.inference.text_query import QueryMatch, Response
from pcdistill.version import __version__

COLUMNS = (
    "scene",
    "looks_like",
    "truth",
    "relevancy",
    "similarity",
    "rank",
    "points",
    "fraction",
    *(f"center_{axis}" for axis in "xyz"),
    "length",
    "width",
    "height",
    *(f"length_axis_{axis}" for axis in "xyz"),
    *(f"height_axis_{axis}" for axis in "xyz"),
)
"""Of `answer_rows`; metres in the frame of the scan's own files, axes of unit length."""


def response_record(response: Response) -> dict[str, Any]:
    """What is known of an answer, as values that JSON has."""
    question = response.question
    return {
        "question": question.text,
        "synonyms": list(question.synonyms),
        "negatives": list(question.negatives),
        "min_similarity": question.min_similarity,
        "ignored_words": list(response.ignored),
        "method": response.method,
        "scenes": list(response.scenes),
        "floor": response.floor,
        "best_similarity": response.best_similarity,
        "excluded": response.excluded,
        "answers": [_answer_record(answer) for answer in response.answers],
        "files": [str(path) for path in response.files],
        "pcdistill": __version__,
    }


def answer_rows(response: Response) -> list[list[str | float | int]]:
    """A row of headings, and one for each place; what is not known is an empty text."""
    rows: list[list[str | float | int]] = [list(COLUMNS)]
    for answer in response.answers:
        box = answer.box
        rows.append(
            [
                answer.scene,
                answer.looks_like,
                answer.truth or "",
                answer.relevancy,
                answer.similarity,
                answer.rank,
                answer.points,
                answer.fraction,
                *box.center,
                *box.size,
                *box.axes[0],
                *box.axes[2],
            ]
        )
    return rows


def why_no_answer(response: Response) -> str:
    """Compose the sentence that says why nothing answers."""
    by = f"({response.method}, {len(response.scenes)} scenes)"
    if response.best_similarity <= -1:
        return (
            "nothing is known of any place here: the teachers found nothing that they know "
            f"{by}; name others in run.teachers"
        )
    if response.excluded:
        negatives = " or ".join(f"'{text}'" for text in response.question.negatives)
        return (
            f"nothing here is left: the {response.excluded} places that look like "
            f"'{response.question.text}' look more like {negatives} {by}"
        )
    return (
        f"nothing here looks like that: the nearest place has similarity "
        f"{response.best_similarity:.2f} with '{response.question.text}', more than "
        f"{response.floor:.2f} is asked for {by}"
    )


def _answer_record(answer: QueryMatch) -> dict[str, Any]:
    low = [center - size / 2 for center, size in zip(answer.position, answer.size, strict=True)]
    high = [center + size / 2 for center, size in zip(answer.position, answer.size, strict=True)]
    return {
        "scene": answer.scene,
        "looks_like": answer.looks_like,
        "truth": answer.truth,
        "relevancy": answer.relevancy,
        "similarity": answer.similarity,
        "rank": answer.rank,
        "points": answer.points,
        "fraction": answer.fraction,
        "box": {
            "center": list(answer.box.center),
            "size": list(answer.box.size),
            "axes": [list(axis) for axis in answer.box.axes],
        },
        "bounds": {"low": low, "high": high},
    }
