"""Notebook of the quickstart: examples/quickstart.ipynb, made from examples/quickstart.py.

python tools/write_notebook.py
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.atomic_io import atomic_file

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPT, NOTEBOOK = EXAMPLES / "quickstart.py", EXAMPLES / "quickstart.ipynb"
WORKSPACE = 'workspace = Path("../runs/demo")  # a finished run; `make demo` makes it'
"""What the notebook has in place of the script's argument; Jupyter starts beside the notebook."""


class Cell(NamedTuple):
    """One cell of a notebook."""

    kind: str
    """`markdown` or `code`."""
    text: str


def notebook_cells(source: str) -> list[Cell]:
    """Cut a script with a function `main(workspace)` into the cells of a notebook.

    The first cells are what the docstrings say, what is imported and set, and the workspace. Then
    each paragraph of `main` is a cell; the comment that it begins with is a text of its own.
    """
    tree = ast.parse(source)
    (main,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    body = _lines(source, main.body[1].lineno, main.body[-1].end_lineno)
    paragraphs = [Cell("code", WORKSPACE), *_paragraphs(textwrap.dedent(body))]
    code = "\n".join(cell.text for cell in paragraphs if cell.kind == "code")
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    before = ""
    for last, statement in pairwise(tree.body):
        if _names(statement) & used:
            together = last.end_lineno == statement.lineno - 1
            before += "\n" if together else "\n\n"
            before += _lines(source, statement.lineno, statement.end_lineno)
    title = (ast.get_docstring(tree) or "").split("\n")[0]
    return [
        Cell("markdown", f"# Quickstart\n\n{title}"),
        Cell("markdown", ast.get_docstring(main) or ""),
        Cell("code", before.strip()),
        *paragraphs,
    ]


def _names(statement: ast.stmt) -> set[str]:
    """Names that an import or an assignment at the top of a module defines."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in statement.names}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return set()


def _lines(source: str, first: int, last: int | None) -> str:
    return "\n".join(source.split("\n")[first - 1 : last])


def _paragraphs(body: str) -> Iterator[Cell]:
    for paragraph in body.split("\n\n"):
        lines = paragraph.split("\n")
        said = 0
        while lines[said].startswith("# "):
            said += 1
        if said:
            text = " ".join(line.removeprefix("# ") for line in lines[:said])
            yield Cell("markdown", text[0].upper() + text[1:] + ".")
        yield Cell("code", "\n".join(lines[said:]))


def notebook(source: str) -> dict[str, Any]:
    """Give the notebook of a script as JSON values, format 4.5, without outputs."""
    cells = []
    for number, cell in enumerate(notebook_cells(source)):
        values: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": cell.text.splitlines(keepends=True),
        }
        if cell.kind == "code":
            values |= {"execution_count": None, "outputs": []}
        cells.append(values)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def notebook_text(source: str) -> str:
    """Give the notebook of a script as the text of its file."""
    return json.dumps(notebook(source), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the notebook."""
    with atomic_file(NOTEBOOK) as temporary:
        temporary.write_text(notebook_text(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
    print(NOTEBOOK)


if __name__ == "__main__":
    main()
