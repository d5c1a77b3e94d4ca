"""The audit finds what is not locked, not licensed, changed or known to be vulnerable."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tools import audit


class Installed:
    """A distribution as far as the audit asks."""

    def __init__(self, name: str, version: str = "1.0", requires=(), **metadata: list[str]) -> None:
        self.name, self.version, self.requires = name, version, list(requires)
        self.metadata = self
        self._told = {"License_Expression": ["MIT"]} | metadata

    def get_all(self, key: str):
        return self._told.get(key.replace("-", "_"))


def installed(*found: Installed) -> dict[str, Installed]:
    return {one.name: one for one in found}


def test_every_requirement_of_the_project_is_locked_in_a_version_that_it_allows():
    """Add name==version to constraints.txt with a new dependency, then tools/audit.py --lock."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pins: dict[str, str] = {}
    for lock in audit.LOCKS:
        pins |= audit.read_pins(lock.read_text())
    assert list(audit.unpinned(audit.requirements_of(project), pins)) == []


def test_a_requirement_without_a_pin_or_outside_of_its_range_is_found():
    wanted = [Requirement("a>=2"), Requirement("b[x]>=1,<2"), Requirement("c_d")]
    assert list(audit.unpinned(wanted, {"a": "1.5", "b": "1.9"})) == [
        "a: is pinned to 1.5, but pyproject.toml requires >=2",
        "c_d: is required and has no version in constraints.txt; add a line name==version",
    ]
    assert list(audit.unpinned(wanted, {"a": "2", "b": "1.9", "c-d": "0"})) == []


def test_what_the_requirements_bring_is_followed_with_extras_and_markers():
    found = installed(
        Installed(
            "a", requires=["b", "d; extra == 'more'", "e; python_version < '3'", "not a name!"]
        ),
        Installed("b", requires=["a", "c"]),
        Installed("c"),
        Installed("d"),
        Installed("e"),
        Installed("f"),
    )
    assert list(audit.closure([Requirement("A")], found)) == ["a", "b", "c"]
    assert list(audit.closure([Requirement("a[more]")], found)) == ["a", "b", "c", "d"]


def test_installed_versions_are_those_of_the_lock():
    needed = installed(Installed("a", "1.0+cpu"), Installed("b", "2.0"), Installed("c"))
    assert list(audit.differing(needed, {"a": "1.0", "b": "2.1"})) == [
        "b: 2.0 is installed, locked is 2.1; install that",
        "c: 1.0 is installed, not locked; tools/audit.py --lock adds it",
    ]


def test_a_line_of_the_lock_that_is_no_pin_is_named():
    text = "# words\na==1.0  # why\n\nB_c===2.0+x\n"
    assert audit.read_pins(text) == {"a": "1.0", "b-c": "2.0+x"}
    with pytest.raises(ValueError, match="'a>=1' is no pin, expected name==version"):
        audit.read_pins("a>=1")


def test_locking_adds_what_is_brought_and_is_stable():
    own = "# head\na==1.0\n"
    needed = installed(Installed("a"), Installed("b", "2.0+cpu"), Installed("c"))
    once = audit.with_brought(own, needed)
    assert once == f"# head\na==1.0\n{audit.BROUGHT}\nb==2.0\nc==1.0\n"
    assert audit.with_brought(once, needed) == once


LICENCES = {
    "MIT": True,
    "Apache-2.0 OR GPL-3.0-only": True,
    "BSD-3-Clause AND 0BSD AND MIT": True,
    "Apache-2.0 WITH LLVM-exception": True,
    "GPL-3.0-or-later": False,
    "LGPL-2.1-only": False,
    "MIT AND AGPL-3.0-only": False,
    "(MIT OR GPL-2.0-only) AND GPL-2.0-only": False,
}


@pytest.mark.parametrize("licence", LICENCES)
def test_licences_are_on_a_list_and_the_gpl_is_not(licence):
    needed = installed(Installed("a", License_Expression=[licence]))
    expected = [] if LICENCES[licence] else [f"a: has the licence {licence}, which is not allowed"]
    assert [line.partition("; take")[0] for line in audit.unlicensed(needed)] == expected


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"License": ["Apache 2.0"]}, "Apache-2.0"),
        ({"License": ["MIT\n\nPermission is hereby"]}, "MIT"),
        ({"License": ["UNKNOWN"], "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved", "Topic :: X :: Y"]}, ""),
        (
            {"Classifier": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]},
            "GNU General Public License v3 (GPLv3)",
        ),
        ({}, ""),
    ],
    ids=str,
)
def test_licences_in_old_words_are_understood(metadata, licence):
    found = Installed("a", License_Expression=None, **metadata)
    assert audit.licence_of("a", found) == licence
    refused = list(audit.unlicensed({"a": found}))
    assert (refused == []) == (licence in audit.ALLOWED)


def test_packages_of_this_environment_have_allowed_licences():
    """Whatever else is installed: what the project requires, and what that brings."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found = {audit.canonicalize_name(one.name): one for one in audit.distributions()}
    needed = audit.closure(audit.requirements_of(project), found)
    assert {"torch", "numpy", "pillow"} <= needed.keys()
    assert list(audit.unlicensed(needed)) == []
    assert "plyfile" not in needed


ADVISORY = {
    "id": "PYSEC-1",
    "summary": "runs code",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "A_b"},
            "versions": ["0.9"],
            "ranges": [
                {
                    "type": "ECOSYSTEM",
                    "events": [{"introduced": "1.0"}, {"fixed": "1.2"}, {"introduced": "2.0"}],
                },
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "0.5"}]},
                {"type": "GIT", "events": [{"introduced": "0"}]},
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        *(("0.1", True), ("0.5", True), ("0.6", False), ("0.9", True), ("1.0+cpu", True)),
        *(("1.1.9", True), ("1.2", False), ("1.9", False), ("2.5", True)),
    ],
)
def test_an_advisory_names_versions_and_ranges(tmp_path, version, affected):
    (tmp_path / "PYSEC-1.json").write_text(json.dumps(ADVISORY))
    (tmp_path / "PYSEC-2.json").write_text(json.dumps(ADVISORY | {"withdrawn": "2020"}))
    found = list(
        audit.vulnerable(installed(Installed("a-b", version)), audit.read_advisories(tmp_path))
    )
    assert found == ([f"a-b: {version} has PYSEC-1 (runs code); update it"] if affected else [])


def test_installed_files_are_compared_with_their_record(tmp_path):
    folder = tmp_path / "toy-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    for name in ("same", "other", "gone"):
        (tmp_path / name).write_text(name)
    lines = [
        f"{n},sha256={audit._digest(tmp_path / n, 'sha256')},4" for n in ("same", "other", "gone")
    ]
    (folder / "RECORD").write_text("\n".join([*lines, "toy-1.0.dist-info/RECORD,,"]))
    (tmp_path / "other").write_text("else")
    (tmp_path / "gone").unlink()
    found = next(audit.distributions(path=[str(tmp_path)]))
    assert [line.replace(str(tmp_path), "") for line in audit.changed_files(found)] == [
        "toy: /other was changed since it was installed; install it again",
        "toy: /gone is missing; install the package again",
    ]


def test_the_command_says_what_it_found_and_what_it_did_not_look_at(monkeypatch, capsys, tmp_path):
    lock = tmp_path / "constraints.txt"
    lock.write_text("toy==2.0\n")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["toy", "absent>=1"]\n')
    monkeypatch.setattr(audit, "REPOSITORY", tmp_path)
    monkeypatch.setattr(audit, "LOCK", lock)
    monkeypatch.setattr(audit, "LOCKS", (lock,))
    monkeypatch.setattr(
        audit, "distributions", lambda: [Installed("toy", "2.0", ["more"]), Installed("more")]
    )
    monkeypatch.setattr(sys, "argv", ["audit.py"])
    assert audit.main() == 1
    assert capsys.readouterr().out.splitlines() == [
        "absent: is required and has no version in constraints.txt; add a line name==version",
        "more: 1.0 is installed, not locked; tools/audit.py --lock adds it",
        "not installed, so that what they bring is not looked at: absent",
        "2 packages, 1 pins, 2 findings, known vulnerabilities not looked at (--advisories)",
    ]
    monkeypatch.setattr(sys, "argv", ["audit.py", "--lock"])
    lock.write_text("toy==2.0\nabsent==1.0\n")
    assert audit.main() == 0
    assert lock.read_text() == f"toy==2.0\nabsent==1.0\n{audit.BROUGHT}\nmore==1.0\n"
    assert Path(audit.__file__).name == "audit.py"
