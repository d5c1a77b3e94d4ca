"""The capability table of a report as HTML: what was measured of each teacher, and what is true."""

from __future__ import annotations

import math
from html import escape

from torch import Tensor

from pcdistill.reporting.report_data import CapabilityTable


def capability_section(table: CapabilityTable | None) -> str:
    """HTML of the table and what it is; empty where there is none."""
    if table is None or not table.teachers or not table.vocabulary:
        return ""
    head = "".join(f"<th><span>{escape(word)}</span></th>" for word in table.vocabulary)
    body = _lines(table, table.values, "")
    true = ""
    if table.true is not None and not bool(table.true.isnan().all()):
        body += _lines(table, table.true, ", truly")
        true = (
            " Below, for comparison, is their true IoU by the labels of the measured scenes, which "
            "the fusion does not know."
        )
    return (
        '<p class="how">Overlap (IoU, per cent) of each teacher\'s mask with the reference mask on '
        "generated images of each word. No annotation of a real scene is used. The better teacher "
        f"of each word is bold; it gets the larger weight in the fusion.{true}</p>"
        '<div class="wide"><div class="matrix-frame"><table class="matrix">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def _lines(table: CapabilityTable, values: Tensor, added: str) -> str:
    """A line for each teacher; `added` says after its name what the values are."""
    lines = values.tolist()
    best = [
        max((v for v in column if not math.isnan(v)), default=math.nan)
        for column in zip(*lines, strict=True)
    ]
    return "".join(
        f"<tr><th>{escape(teacher + added)}</th>"
        + "".join(
            _share_cell(value, top, f"{teacher}, {word}{added}")
            for word, value, top in zip(table.vocabulary, line, best, strict=True)
        )
        + "</tr>"
        for teacher, line in zip(table.teachers, lines, strict=True)
    )


def _share_cell(value: float, best: float, title: str) -> str:
    """One cell of the capability table, the darker the better; a dash where it is not known."""
    if math.isnan(value):
        return f'<td style="--share:0" title="{escape(title, quote=True)}">&ndash;</td>'
    emphasis = ' class="best"' if value == best else ""
    return (
        f'<td{emphasis} style="--share:{value:.3f}" title="{escape(title, quote=True)}">'
        f"{100 * value:.0f}</td>"
    )
