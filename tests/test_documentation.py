"""Documentation for developers: what it names is there, and every equation is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "pcdistill"
PAGES = [*sorted((REPOSITORY / "docs").rglob("*.md")), *sorted(REPOSITORY.glob("*.md"))]


def equations() -> dict[str, list[tuple[str, list[str]]]]:
    """Number of an equation -> (file, names) of the table on the page of the architecture."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    for first, last, cell in re.findall(r"\| Eq\. (\d+)(?:, (\d+))? \|.*\| (.*) \|", text):
        places = [
            (file, re.findall(r"`(\w+)`", names))
            for file, names in re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", cell)
        ]
        for number in range(int(first), int(last or first) + 1):
            found[str(number)] = places
    return found


@pytest.mark.parametrize("number", range(1, 14))
def test_every_equation_is_found_from_the_architecture(number):
    places = equations()[str(number)]
    assert places
    for file, names in places:
        source = (PACKAGE / file).read_text()
        for name in names:
            assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), f"{file}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_room_is_on_the_page_of_the_architecture():
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    rooms = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    assert rooms
    for room in rooms:
        assert re.search(rf"\| .*`{room}`.* \|", text), room


def test_make_help_lists_every_target():
    text = (REPOSITORY / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    listed = re.findall(r"^# make ([\w-]+) ", text.split("\n\n")[0], re.MULTILINE)
    assert sorted(listed) == sorted(targets.split())
