"""The notebook of the quickstart: made from the script, and cut where its paragraphs end."""

from __future__ import annotations

import json

from tools.write_notebook import NOTEBOOK, SCRIPT, WORKSPACE, Cell, notebook_cells, notebook_text

TOY = '''"""What can be done.

python toy.py
"""

import sys
from pathlib import Path

import pcdistill

WORDS = ("wall",)
UNUSED = 1


def main(workspace: Path) -> None:
    """Do it."""
    run = pcdistill.open_run(workspace)
    for word in WORDS:
        print(word)

    # no images:
    # points will do
    print(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
'''


def test_paragraphs_become_cells_and_leading_comments_text():
    assert notebook_cells(TOY) == [
        Cell("markdown", "# Quickstart\n\nWhat can be done."),
        Cell("markdown", "Do it."),
        Cell("code", 'from pathlib import Path\n\nimport pcdistill\n\nWORDS = ("wall",)'),
        Cell("code", WORKSPACE),
        Cell("code", "run = pcdistill.open_run(workspace)\nfor word in WORDS:\n    print(word)"),
        Cell("markdown", "No images: points will do."),
        Cell("code", "print(run)"),
    ]


def test_the_notebook_is_that_of_the_script():
    """`python tools/write_notebook.py` writes it anew."""
    assert NOTEBOOK.read_text() == notebook_text(SCRIPT.read_text())


def test_the_notebook_has_the_keys_that_its_format_asks_for():
    values = json.loads(NOTEBOOK.read_text())
    assert (values["nbformat"], values["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in values["cells"]}) == len(values["cells"]) > 5
    for cell in values["cells"]:
        assert cell["cell_type"] == "markdown" or cell["outputs"] == []
        assert "".join(cell["source"]).strip()
