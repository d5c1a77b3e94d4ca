"""What pip installs is what the code imports, and an extra brings what it is named for."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
TREES = {file: ast.parse(file.read_text()) for file in (REPOSITORY / "pcdistill").rglob("*.py")}
BUILT_BY_HAND = {"MinkowskiEngine"}
"""An engine without wheels, imported where a user chose it."""
IN_ANOTHER_PROCESS = {"tensorflow"}
"""Of the extra `openseg`; this process only looks whether it is there."""


BROUGHT_BY = {"lazrs": "laspy", "rerun": "rerun-sdk"}
"""Distribution of an extra that brings a module of another name; laspy[lazrs] brings both."""


def plain(requirement: str) -> str:
    """The normalised name of a distribution, without extras, version and marker."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement)[0]).lower()


def imported_modules() -> set[str]:
    modules = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    return (
        modules
        - set(sys.stdlib_module_names)
        - {"pcdistill", "__future__"}
        - BUILT_BY_HAND
        - IN_ANOTHER_PROCESS
    )


def extras_asked_for() -> set[tuple[str, str]]:
    """(module, extra) of every call of `import_extra`."""
    return {
        (call.args[1].value, call.args[2].value)
        for tree in TREES.values()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "import_extra"
    }


def test_core_dependencies_are_what_is_imported():
    distributions = packages_distributions()
    imported = {plain(name) for module in imported_modules() for name in distributions[module]}
    extras = ("gpu", "ray", "synthesis", "teachers", "viewer")
    optional = {plain(name) for extra in extras for name in EXTRAS[extra]}
    declared = {plain(requirement) for requirement in PROJECT["dependencies"]}
    assert imported - optional == declared


def test_every_extra_is_asked_for_by_name():
    asked = extras_asked_for()
    otherwise = {"docs", "gpu", "openseg", "ray", "synthesis", "teachers", "tensorboard", "test"}
    otherwise |= {"viewer"}
    assert {extra for _, extra in asked} | otherwise == set(EXTRAS)


@pytest.mark.parametrize(("module", "extra"), sorted(extras_asked_for()))
def test_an_extra_brings_its_module(module, extra):
    distribution = BROUGHT_BY.get(module, module.lower())
    assert distribution in {plain(requirement) for requirement in EXTRAS[extra]}


def test_packages_of_extras_are_not_imported_otherwise():
    assert imported_modules().isdisjoint({module for module, _ in extras_asked_for()})
