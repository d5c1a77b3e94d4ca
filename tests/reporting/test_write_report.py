"""The report: a page that stands alone, numbers that can be computed with, nothing half-written."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.evaluation import Comparison, PairedDifference
from pcdistill.reporting import (
    AskedQuestion,
    CapabilityFindings,
    ClassExamples,
    ConfusionFindings,
    ExampleTile,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    ReferenceSheet,
    ReportData,
    StageCost,
    report_json,
    write_report,
)
from pcdistill.reporting.confusion_chart import confusion_chart
from tests.fixtures.answers import SOFA

WALL = replace(SOFA, looks_like="wall", relevancy=math.inf)


VOID = {"meta", "img", "br", "rect", "link"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID or (tag == "rect" and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, text):
        self.words.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def picture(section="the scan", **more):
    image = torch.zeros(6, 8, 3, dtype=torch.uint8)
    image[:3] = torch.tensor([200, 30, 60], dtype=torch.uint8)
    return Picture(section, "Half of it is red.", image, **more)


FILES = ["index.html", "report.json", "report.md"]
EXAMPLES = 3
"""Images of generated images, which stand before the pictures."""


def tile(caption):
    return ExampleTile(caption, torch.full((6, 8, 3), 120, dtype=torch.uint8))


def full_report():
    return ReportData(
        title="Homes & <gardens>",
        protocol="label set homes; mean over 2 classes",
        seed=7,
        summary=("What was measured.",),
        rows=(
            MethodRow("teacher:demo-dense", 30.0, 40.0, {"wall": 30.0, "sofa": None}),
            MethodRow(
                "fused",
                61.25,
                55.0,
                {"wall": 61.25, "sofa": None},
                per_class_accuracy={"wall": 80.0, "sofa": None},
                overall_accuracy=72.5,
                interval=(58.25, 63.0),
            ),
            MethodRow("student:point", 50.0, 70.0, {"wall": 50.0, "sofa": None}),
        ),
        conclusions=("fused: ahead of <average> (+3.3 [1.0, 5.2])",),
        differences=(Comparison("fused", "average", PairedDifference(3.3, 1.0, 5.2, 4, 1)),),
        confusions=(
            ConfusionFindings(
                "fused", ("wall", "<sofa>"), torch.tensor([[80, 1], [15, 1], [5, 0]])
            ),
        ),
        evaluation={"rules": {"votes": 5}, "teachers": {"demo-dense": "1a2b"}},
        capability=CapabilityFindings(
            ("demo-dense", "demo-masks"),
            ("wall", "lamp"),
            torch.tensor([[0.5, 0.25], [0.75, math.nan]]),
        ),
        examples=ReferenceSheet(
            "Of 3 images none was left out.",
            (ClassExamples("lamp", "3 images.", ((tile("image"), tile("<mask>")), (tile("x"),))),),
        ),
        labels=(LabelColor("wall", (1, 2, 3)),),
        pictures=(
            picture(),
            picture("queries", alt="a hot sofa", scale=HeatScale("similarity", -0.001, 0.62)),
            picture("queries", scale=HeatScale("frames", 0, 8, LabelColor("no <one>", (9, 8, 7)))),
        ),
        queries=(
            AskedQuestion("couch", "fused", "home", SOFA, True),
            AskedQuestion("<b>", "fused", "home", WALL),
        ),
        costs=(StageCost("lift", 12, 75.0, 5_400_000), StageCost("fuse", 12, 2.0, 900)),
        provenance={"torch": "2.13", "configuration": "1b2c"},
        notes=("No accuracy is claimed.",),
    )


def test_report_json_holds_the_promised_keys(tmp_path):
    write_report(tmp_path / "report", full_report())
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    assert stored["protocol"] == "label set homes; mean over 2 classes"
    assert stored["seed"] == 7
    assert [row["name"] for row in stored["rows"]] == [
        "teacher:demo-dense",
        "fused",
        "student:point",
    ]
    assert stored["rows"][1] == {
        "name": "fused",
        "miou": 61.25,
        "macc": 55.0,
        "overall_accuracy": 72.5,
        "interval": [58.25, 63.0],
        "per_class": {"wall": 61.25, "sofa": None},
        "per_class_accuracy": {"wall": 80.0, "sofa": None},
    }
    assert stored["rows"][0]["interval"] is None
    assert stored["evaluation"] == {"rules": {"votes": 5}, "teachers": {"demo-dense": "1a2b"}}
    assert stored["confusions"] == [
        {
            "method": "fused",
            "classes": ["wall", "<sofa>"],
            "cells": [[0, 0, 80], [0, 1, 1], [1, 0, 15], [1, 1, 1], [2, 0, 5]],
        }
    ]
    assert stored["capability"]["values"] == [[0.5, 0.25], [0.75, None]]  # no NaN in JSON
    assert stored["capability"]["true"] is None
    assert stored["examples"] == {
        "summary": "Of 3 images none was left out.",
        "classes": [{"word": "lamp", "note": "3 images.", "samples": [["image", "<mask>"], ["x"]]}],
    }
    assert stored["conclusions"] == ["fused: ahead of <average> (+3.3 [1.0, 5.2])"]
    interval = {
        "difference": 3.3,
        "low": 1.0,
        "high": 5.2,
        "scenes": 4,
        "seeds": 1,
        "p_value": None,
    }
    assert stored["differences"] == [{"first": "fused", "second": "average", **interval}]
    assert stored["queries"][1]["score"] is None
    assert stored["costs"][0] == {"stage": "lift", "units": 12, "seconds": 75.0, "bytes": 5_400_000}
    assert stored["notes"] == ["No accuracy is claimed."]


def test_page_stands_alone(tmp_path):
    path = write_report(tmp_path, full_report())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "index.html",
        "report.json",
        "report.md",
    ]
    text = path.read_text()
    page = Page(text)
    assert not page.all("script")
    assert not page.all("link")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert not re.search(r"url\(", text)
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for attributes in page.all("a"):
        assert attributes["href"].removeprefix("#") in targets
    for attributes in page.all("img"):
        assert attributes["src"].startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
        assert attributes["alt"]
    assert page.all("img")[EXAMPLES + 1]["alt"] == "a hot sofa"
    assert '<b style="background:rgb(9, 8, 7)"></b>no &lt;one&gt;' in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert "prefers-color-scheme: dark" in text


def test_page_holds_the_pictures(tmp_path):
    page = Page(write_report(tmp_path, full_report()).read_text())
    images = page.all("img")
    assert len(images) == EXAMPLES + 3
    data = base64.b64decode(images[EXAMPLES]["src"].split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(shown - full_report().pictures[0].image.numpy()).max() <= 8


def test_page_shows_examples_in_rows_of_one_image_each(tmp_path):
    text = write_report(tmp_path, full_report()).read_text()
    page = Page(text)
    images = page.all("img")[:EXAMPLES]
    assert [image["alt"] for image in images] == ["lamp: image", "lamp: <mask>", "lamp: x"]
    assert {(image["width"], image["height"]) for image in images} == {("8", "6")}
    data = base64.b64decode(images[1]["src"].split(",")[1])
    shown = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(shown - 120).max() <= 4
    assert '<div class="examples" style="--columns:2">' in text
    assert "Of 3 images none was left out." in text
    without = write_report(tmp_path, replace(full_report(), examples=None)).read_text()
    assert 'id="examples"' not in without


def test_what_users_write_is_text_not_html(tmp_path):
    page = Page(write_report(tmp_path, full_report()).read_text())
    words = "".join(page.words)
    assert "Homes & <gardens>" in words
    assert "“<b>”" in words
    assert "No accuracy is claimed." in words


def test_the_best_is_bold_and_classes_without_points_are_named(tmp_path):
    text = write_report(tmp_path, full_report()).read_text()
    results = text[text.index('id="results"') : text.index('id="classes"')]
    assert re.findall(r"<b>([\d.]+)</b>", results) == ["61.2", "70.0"]
    classes = text[text.index('id="classes"') : text.index('id="capability"')]
    assert re.findall(r'class="best">([\d.]+)<', classes) == ["61.2"]
    assert re.findall(r'width="([\d.]+)%" height="9" rx="2" fill', classes) == [
        "25.20",
        "51.45",
        "42.00",
    ]
    assert "Without a true point in the measured scenes: sofa." in classes
    capability = text[text.index('id="capability"') : text.index('id="pictures"')]
    assert re.findall(r'class="best"[^>]*>(\d+)<', capability) == ["25", "75"]
    assert "nan" not in capability


def test_what_the_numbers_say_stands_below_them(tmp_path):
    text = write_report(tmp_path, full_report()).read_text()
    results = text[text.index('id="results"') : text.index('id="classes"')]
    sentence = "fused: ahead of &lt;average&gt; (+3.3 [1.0, 5.2])"
    assert re.search(
        rf'</table></div>\s*<p class="conclusion">{re.escape(sentence)}\.</p>', results
    )


def test_true_iou_stands_below_the_measured_one_where_it_is_known(tmp_path):
    data = full_report()
    true = torch.tensor([[0.25, math.nan], [0.125, math.nan]])
    known = replace(data, capability=replace(data.capability, true=true))
    text = write_report(tmp_path, known).read_text()
    Page(text)
    capability = text[text.index('id="capability"') : text.index('id="pictures"')]
    assert re.findall(r"<tr><th>([^<]+)</th>", capability) == [
        *("demo-dense", "demo-masks", "demo-dense, truly", "demo-masks, truly"),
    ]
    assert re.findall(r'class="best"[^>]*>(\d+)<', capability) == ["25", "75", "25"]
    assert "by the labels of the measured scenes" in capability
    assert report_json(known)["capability"]["true"] == [[0.25, None], [0.125, None]]
    unknown = replace(data.capability, true=torch.full((2, 2), math.nan))
    bare = write_report(tmp_path, replace(data, capability=unknown)).read_text()
    assert bare == write_report(tmp_path, data).read_text()


def test_what_is_empty_is_left_out(tmp_path):
    """A real capture without labels has no results, and says why."""
    data = replace(
        full_report(),
        rows=(),
        conclusions=(),
        capability=None,
        queries=(),
        costs=(),
        pictures=(),
        labels=(),
    )
    text = write_report(tmp_path, data).read_text()
    Page(text)
    for anchor in ("results", "classes", "capability", "pictures", "questions", "costs"):
        assert f'id="{anchor}"' not in text
        assert f'href="#{anchor}"' not in text
    assert "mIoU" not in text.split("</style>")[1]
    assert "No accuracy is claimed." in text
    assert json.loads((tmp_path / "report.json").read_text())["rows"] == []


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_report_is_replaced_whole(tmp_path, monkeypatch, step):
    write_report(tmp_path, full_report())
    before = (tmp_path / "index.html").read_bytes()

    def fails(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(step, fails)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, replace(full_report(), title="new"))
    assert (tmp_path / "index.html").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "index.html",
        "report.json",
        "report.md",
    ]


def test_the_same_data_give_the_same_bytes(tmp_path):
    first = write_report(tmp_path / "a", full_report()).read_bytes()
    assert write_report(tmp_path / "b", full_report()).read_bytes() == first
    assert report_json(full_report()) == report_json(full_report())


def test_impossible_numbers_are_named():
    with pytest.raises(ValueError, match="row 'fused': mIoU is nan, expected 0 to 100 per cent"):
        MethodRow("fused", math.nan, 0.0, {})
    with pytest.raises(ValueError, match="row 'fused': IoU of sofa is 101"):
        MethodRow("fused", 1.0, 0.0, {"sofa": 101.0})
    with pytest.raises(ValueError, match=r"values has shape \(1, 2\), expected \(2, 2\)"):
        CapabilityFindings(("a", "b"), ("c", "d"), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="image has shape"):
        Picture("a", "b", torch.zeros(3, 4))


def test_the_markdown_has_the_tables_and_what_made_them(tmp_path):
    write_report(tmp_path / "report", full_report())
    lines = (tmp_path / "report" / "report.md").read_text().splitlines()
    assert lines[0] == "# Homes & \\<gardens\\>"
    assert "| fused | 61.2 | 58.2 to 63.0 | 55.0 | 72.5 |" in lines
    assert "| teacher:demo-dense | 30.0 | – | 40.0 | – |" in lines
    assert "| wall | 30.0 | 61.2 | 50.0 |" in lines
    assert "| sofa | – | – | – |" in lines
    assert "- torch: 2.13" in lines
    assert "Protocol label set homes; mean over 2 classes." in lines


def test_a_confusion_matrix_has_a_row_for_each_true_class():
    counts = torch.tensor([[80, 1, 0], [15, 1, 0], [0, 0, 0], [5, 0, 0]])
    chart = confusion_chart("fused", ("wall", "sofa", "lamp"), counts)
    assert [label.text for label in chart.rows] == ["wall", "sofa"]  # there is no lamp
    assert [label.text for label in chart.columns] == ["wall", "sofa", "no answer"]
    assert [(cell.text, cell.opacity, cell.right) for cell in chart.cells] == [
        ("80", "0.80", True),
        ("15", "0.15", False),
        ("", "0.05", False),
        ("50", "0.50", False),
        ("50", "0.50", True),
    ]
    assert chart.cells[1].title == "15.0 % of wall taken for sofa, 15 points"
    assert chart.cells[1].x - chart.cells[0].x == chart.step
    assert chart.note == ""


def test_of_many_classes_the_most_frequent_have_rows():
    counts = torch.zeros(101, 100, dtype=torch.int64)
    counts[range(100), range(100)] = torch.arange(100)
    chart = confusion_chart("fused", [f"c{k}" for k in range(100)], counts)
    assert [label.text for label in chart.rows] == [f"c{k}" for k in range(70, 100)]
    assert chart.note == "The 30 classes with most points; 69 more are left out."
