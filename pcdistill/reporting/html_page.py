"""The HTML of a report: one file, no script, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from pcdistill.reporting.capability_section import capability_section
from pcdistill.reporting.report_data import (
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    QueryRow,
    ReportData,
    StageCost,
)
from pcdistill.visualization import heat_colormap, png_bytes

STYLE = Path(__file__).with_name("report.css")

TEACHER_COLORS = ("#a3adbd", "#76839a", "#c1b4cf", "#8f7fa3", "#b9c0a4")
"""Muted: what the others are compared with."""
METHOD_COLORS = {
    "average": "#93c9cf",
    "linear": "#4ea3ae",
    "binary": "#c9d3a0",
    "shuffled": "#a9b873",
    "fused": "#0f7285",
    "oracle": "#d9a9c2",
    "fused+voxels": "#0d5f70",
    "fused+superpoints": "#0a4d5a",
    "student:point": "#f2bd88",
    "student:superpoint": "#e58f3d",
    "student:superpoint+ensemble": "#bf5212",
    "student:pretrained": "#bf5212",
}
OTHER_COLOR = "#7d8590"
METHOD_WORDS = {
    "average": "Plain average of the teachers",
    "linear": "Teachers weighted by their own similarity",
    "binary": "Teachers fused by who finds which class at all",
    "shuffled": "Teachers fused by the measured strengths in a random order (mean of 5)",
    "fused": "Teachers fused by measured capability",
    "oracle": "Teachers fused by their true IoU on these scenes: what perfect knowledge would give",
    "fused+voxels": "Fused, averaged over the voxels and cuts that a student answers from",
    "fused+superpoints": "Fused, averaged over superpoints (the students' targets)",
    "student:point": "Student, distilled point by point",
    "student:superpoint": "Student, distilled by superpoints",
    "student:superpoint+ensemble": "Student, superpoints + temporal ensemble",
    "student:pretrained": "Student, trained before",
}
PICTURE_COLORS = 256
"""Colours of an embedded image; a quarter of the bytes, and hardly a difference to the eye."""


def render_html(data: ReportData) -> str:
    """Give the whole page as HTML text."""
    sections = [
        ("results", "Results", _results(data.rows, data.conclusions)),
        ("classes", "Class by class", _classes(data.rows)),
        ("capability", "What each teacher can do", capability_section(data.capability)),
        ("pictures", "Pictures", _pictures(data)),
        ("questions", "Questions in plain words", _questions(data.queries)),
        ("costs", "Time and disk", _costs(data.costs)),
        ("provenance", "Where this comes from", _provenance(data)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title, _ in sections)
    body = "".join(
        f'<section id="{anchor}"><h2>{title}</h2>{content}</section>'
        for anchor, title, content in sections
    )
    paragraphs = "".join(f'<p class="lead">{escape(text)}</p>' for text in data.summary)
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in data.notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{STYLE.read_text()}</style></head>\n"
        f"<body><header><h1>{escape(data.title)}</h1>{paragraphs}{notes}"
        f"{_tiles(data.rows)}<nav>{links}</nav></header>\n<main>{body}</main>\n"
        "<footer>The same numbers are in report.json beside this page.</footer>"
        "</body></html>\n"
    )


def _tiles(rows: Sequence[MethodRow]) -> str:
    """The three numbers that a reader looks for first."""
    groups = [
        ("best single teacher", [row for row in rows if row.name.startswith("teacher:")]),
        ("teachers fused by capability", [row for row in rows if row.name == "fused"]),
        ("best student, without images", [r for r in rows if r.name.startswith("student:")]),
    ]
    tiles = []
    for what, members in groups:
        if members:
            best = max(members, key=lambda row: row.miou)
            tiles.append(
                f'<div class="tile"><div class="what">{what}</div>'
                f'<div class="big">{best.miou:.1f} <small>mIoU %</small></div>'
                f'<div class="which">{escape(best.name)}</div></div>'
            )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


def _results(rows: Sequence[MethodRow], conclusions: Sequence[str]) -> str:
    if not rows:
        return ""
    top_iou, top_accuracy = max(r.miou for r in rows), max(r.macc for r in rows)
    lines, last = [], ""
    for row, color in zip(rows, _colors(rows), strict=True):
        kind = row.name.split(":")[0] if ":" in row.name else "fusion"
        group = ' class="group"' if last and kind != last else ""
        last = kind
        lines.append(
            f"<tr{group}><th>{escape(_words(row.name))}"
            f'<span class="code">{escape(row.name)}</span></th>'
            f'<td class="bar">{_single_bar(row.miou, color)}</td>'
            f'<td class="number">{_number(row.miou, top_iou)}</td>'
            f'<td class="number">{_number(row.macc, top_accuracy)}</td></tr>'
        )
    return (
        '<p class="how">Mean intersection over union (mIoU) and mean class accuracy (mAcc), in '
        "per cent; higher is better, the best is bold.</p>"
        '<div class="wide"><table><thead><tr><th>method</th><th></th><th class="number">mIoU</th>'
        f'<th class="number">mAcc</th></tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        + "".join(f"<p>{escape(sentence)}</p>" for sentence in conclusions)
    )


def _classes(rows: Sequence[MethodRow]) -> str:
    """One small bar chart a class, and the same numbers as a table."""
    if not rows:
        return ""
    colors = _colors(rows)
    legend = "".join(
        f'<li><i style="background:{color}"></i>{escape(row.name)}</li>'
        for row, color in zip(rows, colors, strict=True)
    )
    names = list(dict.fromkeys(name for row in rows for name in row.per_class))
    measured = [n for n in names if any(row.per_class.get(n) is not None for row in rows)]
    panels = "".join(
        f'<div class="panel"><h4>{escape(name)}</h4>{_class_bars(name, rows, colors)}</div>'
        for name in measured
    )
    absent = [name for name in names if name not in measured]
    missing = (
        f'<p class="how" style="margin-top:20px">Without a true point in the measured scenes: '
        f"{escape(', '.join(absent))}.</p>"
        if absent
        else ""
    )
    head = "".join(f'<th class="number">{escape(row.name)}</th>' for row in rows)
    body = "".join(
        f"<tr><th>{escape(name)}</th>"
        + "".join(f'<td class="number">{cell}</td>' for cell in _class_cells(name, rows))
        + "</tr>"
        for name in measured
    )
    return (
        '<p class="how">Intersection over union of every class, in per cent. A bar that fills '
        "its track is 100; the best of each class is bold.</p>"
        f'<ul class="legend">{legend}</ul><div class="panels">{panels}</div>{missing}'
        '<details><summary>The same numbers as a table</summary><div class="wide"><table>'
        f"<thead><tr><th>class</th>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _class_cells(name: str, rows: Sequence[MethodRow]) -> list[str]:
    values = [row.per_class.get(name) for row in rows]
    best = max((v for v in values if v is not None), default=0.0)
    return ["&ndash;" if v is None else _number(v, best) for v in values]


def _class_bars(name: str, rows: Sequence[MethodRow], colors: Sequence[str]) -> str:
    step, thick = 13, 9
    values = [row.per_class.get(name) for row in rows]
    best = max((v for v in values if v is not None), default=0.0)
    marks = []
    for number, (row, value, color) in enumerate(zip(rows, values, colors, strict=True)):
        y = number * step
        marks.append(f'<rect class="track" x="0" y="{y}" width="84%" height="{thick}" rx="2"/>')
        if value is None:
            continue
        emphasis = ' class="best"' if f"{value:.1f}" == f"{best:.1f}" else ""
        marks.append(
            f'<rect x="0" y="{y}" width="{0.84 * value:.2f}%" height="{thick}" rx="2" '
            f'fill="{color}"><title>{escape(row.name)}: {value:.1f}</title></rect>'
            f'<text x="100%" y="{y + 9}" text-anchor="end"{emphasis}>{value:.1f}</text>'
        )
    alt = escape(f"IoU of {name} for each method", quote=True)
    return (
        f'<svg width="100%" height="{len(rows) * step}" role="img" aria-label="{alt}">'
        f"{''.join(marks)}</svg>"
    )


def _pictures(data: ReportData) -> str:
    if not data.pictures:
        return ""
    parts = []
    if data.labels:
        legend = "".join(
            f'<li><i style="background:rgb{label.color}"></i>{escape(label.name)}</li>'
            for label in data.labels
        )
        parts.append(
            '<p class="how">Click a picture to enlarge it. Colours of the classes in all pictures '
            f'that show labels:</p><ul class="legend">{legend}</ul>'
        )
    sections: dict[str, list[tuple[int, Picture]]] = {}
    for number, picture in enumerate(data.pictures):
        sections.setdefault(picture.section, []).append((number, picture))
    # Sections of a single picture share a line, two to a line.
    for alone, group in groupby(sections.items(), key=lambda item: len(item[1]) == 1):
        blocks = "".join(_picture_block(section, members) for section, members in group)
        parts.append(f'<div class="grid large">{blocks}</div>' if alone else blocks)
    return "".join(parts)


def _picture_block(section: str, members: Sequence[tuple[int, Picture]]) -> str:
    size = "grid large" if len(members) in (2, 4) else "grid"
    figures = "".join(_figure(number, picture) for number, picture in members)
    return f'<div><h3>{escape(section)}</h3><div class="{size}">{figures}</div></div>'


def _figure(number: int, picture: Picture) -> str:
    height, width = picture.image.shape[:2]
    encoded = base64.b64encode(png_bytes(picture.image, colors=PICTURE_COLORS)).decode()
    alt = escape(picture.alt or picture.caption, quote=True)
    scale = "" if picture.scale is None else _scale(picture.scale)
    return (
        f'<figure id="picture-{number}"><a href="#picture-{number}">'
        f'<img src="data:image/png;base64,{encoded}" width="{width}" height="{height}" '
        f'alt="{alt}"></a><a class="close" href="#pictures">close</a>'
        f"<figcaption>{escape(picture.caption)}{scale}</figcaption></figure>"
    )


def _scale(scale: HeatScale) -> str:
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in heat_colormap(9).tolist())
    other = "" if scale.other is None else _swatch(scale.other)
    return (
        f'<div class="scale">{escape(scale.title)} {_short(scale.low)}'
        f'<i style="background:linear-gradient(90deg, {stops})"></i>{_short(scale.high)}'
        f"{other}</div>"
    )


def _swatch(label: LabelColor) -> str:
    return f'<b style="background:rgb{label.color}"></b>{escape(label.name)}'


def _questions(queries: Sequence[QueryRow]) -> str:
    if not queries:
        return ""
    verdicts = {
        True: '<span class="holds">holds</span>',
        False: '<span class="fails">does not hold</span>',
        None: '<span class="unknown">not known</span>',
    }
    lines = "".join(
        f"<tr><th>&ldquo;{escape(query.text)}&rdquo;</th><td>{escape(query.looks_like)}</td>"
        f"<td>{escape(query.truth or '–')}</td><td>{verdicts[query.correct]}</td>"
        f"<td>{escape(query.scene)}</td>"
        f'<td class="number">{_triple(query.position, ", ")}</td>'
        f'<td class="number">{_triple(query.size, " × ")}</td>'
        f'<td class="number">{_relevancy(query.score)}</td></tr>'
        for query in queries
    )
    told = [query.correct for query in queries if query.correct is not None]
    count = f" {sum(told)} of {len(told)} hold." if told else ""
    return (
        '<p class="how">The connected place most relevant to each question, asked of the row in '
        f"brackets; most of these words are no class of the label set.{count}</p>"
        '<div class="wide"><table><thead><tr><th>question</th><th>looks like</th><th>truly</th>'
        '<th></th><th>scene</th><th class="number">centre x, y, z (m)</th>'
        '<th class="number">size (m)</th><th class="number">relevancy</th></tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _costs(costs: Sequence[StageCost]) -> str:
    if not costs:
        return ""
    longest = max(max(cost.seconds for cost in costs), 1e-9)
    lines = "".join(
        f'<tr><th>{escape(cost.stage)}</th><td class="number">{cost.units}</td>'
        f'<td class="bar">{_single_bar(100 * cost.seconds / longest, OTHER_COLOR)}</td>'
        f'<td class="number">{_duration(cost.seconds)}</td>'
        f'<td class="number">{_size(cost.bytes)}</td></tr>'
        for cost in costs
    )
    seconds, size = sum(cost.seconds for cost in costs), sum(cost.bytes for cost in costs)
    return (
        '<div class="wide"><table><thead><tr><th>stage</th><th class="number">units</th><th></th>'
        '<th class="number">time</th><th class="number">disk</th></tr></thead>'
        f'<tbody>{lines}<tr class="group"><th>together</th><td></td><td></td>'
        f'<td class="number">{_duration(seconds)}</td><td class="number">{_size(size)}</td></tr>'
        "</tbody></table></div>"
    )


def _provenance(data: ReportData) -> str:
    entries = {"protocol": data.protocol, "seed": str(data.seed), **data.provenance}
    lines = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(str(v))}</dd>" for key, v in entries.items()
    )
    return f"<dl>{lines}</dl>"


def _single_bar(percent: float, color: str) -> str:
    return (
        '<svg width="100%" height="14" aria-hidden="true">'
        '<rect class="track" width="100%" height="14" rx="3"/>'
        f'<rect width="{percent:.2f}%" height="14" rx="3" fill="{color}"/></svg>'
    )


def _colors(rows: Iterable[MethodRow]) -> list[str]:
    colors, teachers = [], 0
    for row in rows:
        if row.name.startswith("teacher:"):
            colors.append(TEACHER_COLORS[teachers % len(TEACHER_COLORS)])
            teachers += 1
        else:
            colors.append(METHOD_COLORS.get(row.name, OTHER_COLOR))
    return colors


def _words(name: str) -> str:
    if name.startswith("teacher:"):
        return f"Teacher {name.removeprefix('teacher:')}, carried onto the points"
    return METHOD_WORDS.get(name, name)


def _number(value: float, best: float) -> str:
    text = f"{value:.1f}"
    return f"<b>{text}</b>" if text == f"{best:.1f}" else text


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.005 else "0"


def _relevancy(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _triple(values: tuple[float, float, float] | None, between: str) -> str:
    if values is None:
        return "–"
    return between.join(f"{value:.1f}" for value in values)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 60 else f"{seconds / 3600:.1f} h"


def _size(count: int) -> str:
    steps: list[tuple[float, str, Callable[[float], str]]] = [
        (1e9, "GB", "{:.1f}".format),
        (1e6, "MB", "{:.1f}".format),
        (1e3, "kB", "{:.0f}".format),
    ]
    for unit, name, shown in steps:
        if count >= unit:
            return f"{shown(count / unit)} {name}"
    return f"{count} B"
