"""The site of the documentation: every room has its reference, links lead somewhere, no warning."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tools.docs_site import PAGES, faces, moved_links, reference_pages

NAVIGATION = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
NEEDS_MKDOCS = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None,
    reason="the site was not built: mkdocs is missing; pip install -e '.[docs]'",
)


def pages(entry: Any) -> Iterator[str]:
    """Pages below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
        return
    for below in entry if isinstance(entry, list) else entry.values():
        yield from pages(below)


def test_every_page_is_in_the_navigation_once():
    docs = REPOSITORY / "docs"
    written = [str(file.relative_to(docs)) for file in docs.rglob("*.md")]
    assert sorted(pages(NAVIGATION)) == sorted([*written, *PAGES.values()])


def test_packages_that_offer_names_have_a_page(tmp_path):
    room = tmp_path / "house" / "room"
    room.mkdir(parents=True)
    (tmp_path / "house" / "__init__.py").write_text('"""No face."""\n')
    (room / "__init__.py").write_text('"""Where one sits.\n\nMore."""\n__all__ = ["chair"]\n')
    assert faces(tmp_path / "house") == ["house.room"]
    assert reference_pages(tmp_path / "house") == {
        "reference/room.md": "# house.room\n\n::: house.room\n"
    }


@pytest.mark.parametrize(
    ("link", "moved"),
    [
        ("[a](docs/stages.md#what)", "[a](stages.md#what)"),
        ("![a](docs/images/demo.png)", "![a](images/demo.png)"),
        ("[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("[a](https://host/docs/x.md)", "[a](https://host/docs/x.md)"),
        ("[a](#ask)", "[a](#ask)"),
    ],
)
def test_links_of_the_readme_are_moved(link, moved):
    assert moved_links(link, PAGES) == moved


@NEEDS_MKDOCS
@pytest.mark.thorough
def test_the_site_is_built_without_a_warning(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr
    for page in reference_pages(REPOSITORY / "pcdistill"):
        assert f'href="{page.removesuffix("md")}html"' in (tmp_path / "index.html").read_text()
    reference = (tmp_path / "reference" / "geometry.html").read_text()
    assert 'id="pcdistill.geometry.voxelize"' in reference
    data_sets = (tmp_path / "datasets" / "index.html").read_text()
    assert 'href="../configs/scannet.yaml"' in data_sets
    assert (tmp_path / "configs" / "scannet.yaml").exists()
