"""Audit of the installed packages against the lock file, without a network.

    python tools/audit.py                      # pins, versions and licences: `make audit`
    python tools/audit.py --files              # also whether installed files are as they came
    python tools/audit.py --advisories FOLDER  # also known vulnerabilities, from a dump of OSV
    python tools/audit.py --lock               # write what the dependencies bring into the lock

The dump is https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip, unpacked: one JSON file
an advisory. docs/dependencies.md says what the audit can tell and what it cannot. The exit status
is 1 where something is found.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

REPOSITORY = Path(__file__).resolve().parents[1]
LOCK = REPOSITORY / "constraints.txt"
LOCKS = (LOCK, REPOSITORY / "constraints-test.txt")
BROUGHT = "# What these bring: written by tools/audit.py --lock, not by hand."
"""Line of the lock file below which only the tool writes."""
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python"),
    *("ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib", "LLVM-exception"),
    "LicenseRef-NVIDIA-Proprietary",  # what PyPI's torch needs on a GPU; we ship none of it
}
"""Licences, by SPDX. MPL binds only who changes its own files. No GPL, also none of its kin."""
SPELLINGS = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
}
"""How licences are called in metadata before SPDX, in lower case."""
LOOKED_UP = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "embreex": "MIT",
    "nvidia-nvtx": "Apache-2.0",
    "openexr": "BSD-3-Clause",
    "scikit-image": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "segment-anything": "Apache-2.0",
}
"""Licences that the metadata does not say, or not in a word: read in the files of the package."""


def main() -> int:
    """Entry point."""
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--files", action="store_true", help="compare every installed file")
    parser.add_argument("--advisories", type=Path, help="folder of OSV's JSON files for PyPI")
    parser.add_argument("--lock", action="store_true", help="write the lock file")
    arguments = parser.parse_args()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    direct = requirements_of(project)
    installed: dict[str, Distribution] = {canonicalize_name(d.name): d for d in distributions()}
    needed = closure(direct, installed)
    if arguments.lock:
        text = with_brought(LOCK.read_text(), needed)
        LOCK.write_text(text)
    pins = {name: pin for lock in LOCKS for name, pin in read_pins(lock.read_text()).items()}
    findings = [*unpinned(direct, pins), *differing(needed, pins), *unlicensed(needed)]
    if arguments.files:
        findings += [line for found in needed.values() for line in changed_files(found)]
    if arguments.advisories is not None:
        findings += vulnerable(needed, read_advisories(arguments.advisories))
    for line in findings:
        print(line)
    absent = sorted({canonicalize_name(one.name) for one in direct} - needed.keys())
    if absent:
        print(f"not installed, so that what they bring is not looked at: {', '.join(absent)}")
    known = "" if arguments.advisories else ", known vulnerabilities not looked at (--advisories)"
    print(f"{len(needed)} packages, {len(pins)} pins, {len(findings)} findings{known}")
    return 1 if findings else 0


def requirements_of(project: Mapping[str, Any]) -> list[Requirement]:
    """All requirements of a project, those of its extras included, that count on this platform."""
    lines = [*project["dependencies"]]
    for extra in project.get("optional-dependencies", {}).values():
        lines += extra
    wanted = [Requirement(line) for line in lines]
    return [one for one in wanted if one.marker is None or one.marker.evaluate()]


def closure(
    direct: Sequence[Requirement], installed: Mapping[str, Distribution]
) -> dict[str, Distribution]:
    """What is installed of the requirements and of what they require, by normalised name."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in direct]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name not in installed:
            continue
        seen.add((name, extras))
        found[name] = installed[name]
        brought = _required(installed[name], extras)
        waiting += [(canonicalize_name(one.name), frozenset(one.extras)) for one in brought]
    return dict(sorted(found.items()))


def _required(distribution: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in distribution.requires or ():
        try:
            one = Requirement(line)
        except InvalidRequirement:
            continue
        marker = one.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


def read_pins(text: str) -> dict[str, str]:
    """Normalised name -> version of every pin of a lock file.

    Raises:
        ValueError: a line is neither a pin of one version nor a comment.
    """
    pins: dict[str, str] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].strip()
        if not words:
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)===?([A-Za-z0-9.+!_-]+)", words)
        if match is None:
            raise ValueError(f"{LOCK.name}: '{words}' is no pin, expected name==version")
        pins[canonicalize_name(match[1])] = match[2]
    return pins


def with_brought(text: str, needed: Mapping[str, Distribution]) -> str:
    """A lock file with pins of what the dependencies bring, in the versions that are installed."""
    own = text.partition(BROUGHT)[0].rstrip("\n") + "\n"
    pins = read_pins(own)
    lines = [f"{name}=={plain(d.version)}" for name, d in needed.items() if name not in pins]
    return "\n".join([own + BROUGHT, *lines, ""])


def plain(version: str) -> str:
    """A version without its local part, such as +cpu."""
    return version.partition("+")[0]


def unpinned(direct: Sequence[Requirement], pins: Mapping[str, str]) -> Iterator[str]:
    """Requirements without a pin, or with one that they do not allow."""
    for name, specifiers in sorted({(one.name, str(one.specifier)) for one in direct}):
        pin = pins.get(canonicalize_name(name))
        if pin is None:
            yield f"{name}: is required and has no version in {LOCK.name}; add a line name==version"
        elif not Requirement(f"{name}{specifiers}").specifier.contains(pin, prereleases=True):
            yield f"{name}: is pinned to {pin}, but pyproject.toml requires {specifiers}"


def differing(needed: Mapping[str, Distribution], pins: Mapping[str, str]) -> Iterator[str]:
    """Installed packages without a pin, or in another version."""
    for name, found in needed.items():
        if name not in pins:
            yield f"{name}: {found.version} is installed, not locked; tools/audit.py --lock adds it"
        elif plain(found.version) != plain(pins[name]):
            yield f"{name}: {found.version} is installed, locked is {pins[name]}; install that"


def unlicensed(needed: Mapping[str, Distribution]) -> Iterator[str]:
    """Installed packages with a licence that is not allowed, or that does not say which."""
    for name, found in needed.items():
        said = licence_of(name, found)
        if not said:
            yield f"{name}: does not say its licence; read it, and note it in tools/audit.py"
        elif not is_allowed(said):
            yield f"{name}: has the licence {said}, which is not allowed; take another package"


def licence_of(name: str, found: Distribution) -> str:
    """The licence of a package as SPDX, as far as its metadata can be understood; else empty."""
    if name in LOOKED_UP:
        return LOOKED_UP[name]
    told = found.metadata.get_all
    if expressions := told("License-Expression"):
        return str(expressions[0])
    said = str((told("License") or [""])[0]).strip().splitlines()
    kinds = [
        str(line).rpartition(" :: ")[2]
        for line in told("Classifier") or ()
        if line.startswith("License :: ") and line.count("::") > 1
    ]
    for words in (*said[:1], *kinds):
        if words.lower() in SPELLINGS or _symbols(words) & ALLOWED:
            return SPELLINGS.get(words.lower(), words)
    known = [words for words in (*said[:1], *kinds) if words and words != "UNKNOWN"]
    return known[0] if known else ""


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression leaves a choice among allowed licences."""
    if " OR " in expression and "(" not in expression:
        return any(is_allowed(part) for part in expression.split(" OR "))
    return _symbols(expression) <= ALLOWED


def _symbols(expression: str) -> set[str]:
    words = re.findall(r"[A-Za-z0-9.+-]+", expression)
    return {word for word in words if word not in ("AND", "OR", "WITH")}


def changed_files(found: Distribution) -> Iterator[str]:
    """Installed files that are not as the package brought them, by its RECORD."""
    for file in found.files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        path = Path(str(found.locate_file(file)))
        if not path.is_file():
            yield f"{found.name}: {path} is missing; install the package again"
        elif _digest(path, file.hash.mode) != file.hash.value:
            yield f"{found.name}: {path} was changed since it was installed; install it again"


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, kind).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def read_advisories(folder: Path) -> Iterator[dict[str, Any]]:
    """Advisories of a folder of OSV's JSON files."""
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "withdrawn" not in content:
            yield content


def vulnerable(
    needed: Mapping[str, Distribution], advisories: Iterator[dict[str, Any]]
) -> Iterator[str]:
    """Installed versions that an advisory names."""
    for advisory in advisories:
        for affected in advisory.get("affected", ()):
            package = affected.get("package", {})
            found = needed.get(canonicalize_name(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or found is None:
                continue
            if _is_affected(found.version, affected):
                what = f"{advisory.get('id')} ({str(advisory.get('summary', 'no summary'))[:80]})"
                yield f"{found.name}: {found.version} has {what}; update it"


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if plain(version) in affected.get("versions", ()):
        return True
    own = Version(plain(version))
    for known in affected.get("ranges", ()):
        inside = False
        for event in known.get("events", ()) if known.get("type") == "ECOSYSTEM" else ():
            kind, text = next(iter(event.items()))
            try:
                reached = text == "0" or own >= Version(text)
                beyond = own > Version(text) if kind == "last_affected" else reached
            except InvalidVersion:
                continue
            inside = reached if kind == "introduced" and reached else inside and not beyond
        if inside:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
