"""Parts of the panel as HTML; whatever a run or a user wrote is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pcdistill.inference import PointExplanation, SceneResponse
from pcdistill.visualization import heat_colormap

_BOX = "padding:0 0.6em 0.4em;font-size:0.85em;line-height:1.4"
_CELL = "padding:0.1em 0.5em 0.1em 0;vertical-align:top"


def note(text: str) -> str:
    """A sentence."""
    return f'<div style="{_BOX}">{escape(text)}</div>' if text else ""


def warning(text: str) -> str:
    """A sentence about what went wrong."""
    return f'<div style="{_BOX};color:#b3261e">{escape(text)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A small table."""
    top = "".join(f'<th style="{_CELL};text-align:left">{escape(one)}</th>' for one in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(one)}</td>' for one in row) + "</tr>"
        for row in rows
    )
    return f'<table style="border-collapse:collapse;margin:0.2em 0"><tr>{top}</tr>{body}</table>'


def answer_box(
    text: str, method: str, response: SceneResponse | None, ignored: Sequence[str]
) -> str:
    """What a question found in a scene.

    Args:
        text: the question.
        method: who answered.
        response: places that fit; None while they are looked for.
        ignored: words of the question that are not known.
    """
    lines = []
    if response is None:
        lines.append("places are looked for")
    elif response.answers:
        rows = [
            (str(rank), one.looks_like, f"{one.relevancy:.2f}", " x ".join(_metres(one.size)))
            for rank, one in enumerate(response.answers, start=1)
        ]
        lines.append(table(("", "looks like", "relevancy", "size (m)"), rows))
    elif response.best_similarity <= -1:
        lines.append("nothing is known of any place here")
    else:
        lines.append(
            f"nothing here looks like that: the nearest place has similarity "
            f"{response.best_similarity:.2f}, more than {response.floor:.2f} is asked for"
        )
    if ignored:
        words = escape(", ".join(ignored))
        lines.append(f"not known, so left out of the question: {words}")
    lines.append(f"&ldquo;{escape(text)}&rdquo;, answered by {escape(method)}")
    return f'<div style="{_BOX}">' + "<br>".join(lines) + "</div>"


def heat_bar(low: float, high: float) -> str:
    """Legend of a heat map."""
    steps = [f"rgb({r},{g},{b})" for r, g, b in heat_colormap(9).tolist()]
    return (
        f'<div style="{_BOX};display:flex;gap:0.5em;align-items:center">relevancy {low:.2f}'
        f'<span style="flex:1;height:0.9em;border-radius:3px;'
        f'background:linear-gradient(90deg,{",".join(steps)})"></span>{high:.2f}</div>'
    )


def swatches(names: Sequence[str], colors: Sequence[Sequence[int]]) -> str:
    """Legend of classes: a coloured square before each name."""
    parts = [
        f'<span style="white-space:nowrap;margin-right:0.9em"><span style="display:inline-block;'
        f"width:0.8em;height:0.8em;border-radius:2px;background:rgb({r},{g},{b});"
        f'margin-right:0.3em"></span>{escape(name)}</span>'
        for name, (r, g, b) in zip(names, colors, strict=True)
    ]
    return " ".join(parts)


def explanation_box(
    found: PointExplanation | None, said: Sequence[tuple[str, str]], place: Sequence[float]
) -> str:
    """Why a point has its label.

    Args:
        found: what the teachers say; None where their features are not stored.
        said: (view, class) of every view that was shown.
        place: metres, in the frame of the scan's own files.
    """
    lines = [f"point at {' '.join(_metres(place))} m"]
    if found is not None:
        rows = [
            (
                vote.teacher,
                f"{vote.word} {vote.similarity:.2f}" if vote.word else "nothing",
                "" if vote.capability is None else f"{vote.capability:.2f}",
                "" if vote.weight is None else f"{vote.weight:.2f}",
                str(vote.frames),
            )
            for vote in found.votes
        ]
        lines.append(table(("teacher", "says", "skill", "weight", "frames"), rows))
        if found.fused is not None:
            lines.append(f"fused: <b>{escape(found.fused)}</b>")
    else:
        lines.append("what the teachers say of single points is not stored for this scene")
    if said:
        lines.append(table(("shown", "class"), said))
    return f'<div style="{_BOX}">' + "<br>".join(lines) + "</div>"


def _metres(values: Sequence[float]) -> list[str]:
    return [f"{value:.2f}" for value in values]
