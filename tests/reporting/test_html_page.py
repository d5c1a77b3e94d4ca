"""Template of the report page: texts of others stay text, other commands do not load it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

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
)
from pcdistill.reporting.html_page import render_html
from tests.fixtures.answers import SOFA

HOSTILE = (
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x=\'',
    "{{ 7 * 7 }} {% for x in y %} {# gone #}",
    "&lt;b&gt; & &amp;",
)
HARMLESS = "written-by-others"


class Parsed(HTMLParser):
    """Tags with the names of their attributes, their values, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))
        self.values += [value or "" for _, value in attributes]

    def handle_data(self, text):
        self.words.append(text)


def page_of(text: str) -> Parsed:
    """The page of a report in which every text that others write is `text`."""
    image = torch.zeros(2, 2, 3, dtype=torch.uint8)
    scale = HeatScale(text, 0.0, 1.0, LabelColor(text, (1, 2, 3)))
    found = replace(SOFA, looks_like=text, truth=text)
    data = ReportData(
        title=text,
        protocol=text,
        seed=0,
        summary=(text,),
        rows=(
            MethodRow(f"teacher:{text}", 10.0, 20.0, {text: 10.0, f"{text} absent": None}),
            MethodRow(text, 30.0, 20.0, {text: 30.0}),
        ),
        conclusions=(text,),
        confusions=(ConfusionFindings(text, (text[:12],), torch.tensor([[3], [1]])),),
        capability=CapabilityFindings((text,), (text,), torch.ones(1, 1), torch.ones(1, 1)),
        examples=ReferenceSheet(text, (ClassExamples(text, text, ((ExampleTile(text, image),),)),)),
        labels=(LabelColor(text, (4, 5, 6)),),
        pictures=(Picture(text, text, image, alt=text, scale=scale),),
        queries=(AskedQuestion(text, text, text, found, False),),
        costs=(StageCost(text, 1, 1.0, 1),),
        provenance={text: text},
        notes=(text,),
    )
    return Parsed(render_html(data))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_write_makes_neither_tags_nor_attributes(text):
    hostile, harmless = page_of(text), page_of(HARMLESS)
    assert hostile.tags == harmless.tags
    whole, plain = "".join(hostile.words), "".join(harmless.words)
    assert whole.count(text) == plain.count(HARMLESS) > 20
    shown = [value for value in hostile.values if text in value]
    assert len(shown) == len([value for value in harmless.values if HARMLESS in value]) > 2


def test_commands_that_write_no_page_do_not_load_the_template_engine():
    probe = "import sys, pcdistill.cli, pcdistill.stages; print('jinja2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
