"""Rules of the house that a change can break without noticing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pcdistill"

BELOW = {
    "geometry": set(),
    "sparse": {"geometry"},
    "networks": {"sparse", "geometry"},
    "fusion": {"geometry"},
    "scenes": {"geometry"},
    "homes": {"geometry", "scenes"},
    "capability": {"geometry", "scenes", "homes"},
    "teachers": {"geometry", "scenes"},
    "distillation": {"networks", "sparse", "fusion", "geometry"},
    "evaluation": {"networks", "fusion", "geometry"},
    "inference": {"geometry"},
}
"""Room -> rooms that it may import; every room may import the plain modules of the package."""


def imported_rooms(file: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "pcdistill":
                names = [f"pcdistill.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("pcdistill.")}
    return rooms & ({*BELOW, "stages", "cli"})


@pytest.mark.parametrize("room", BELOW)
def test_imports_point_downwards(room):
    for file in (PACKAGE / room).rglob("*.py"):
        above = imported_rooms(file) - BELOW[room] - {room}
        assert not above, f"{file.relative_to(PACKAGE)} imports {', '.join(sorted(above))}"


def test_nobody_imports_the_command_line():
    for file in PACKAGE.rglob("*.py"):
        if not file.is_relative_to(PACKAGE / "cli"):
            assert "cli" not in imported_rooms(file), file


def test_every_room_names_its_public_face():
    for room in BELOW:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
        assert ast.get_docstring(tree), room
        assigned = [
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        ]
        assert "__all__" in assigned, room


def test_importing_touches_neither_network_nor_device():
    """No download, no CUDA context, no thread count, no environment variable."""
    code = """
import os, socket
before = dict(os.environ)
def refuse(*_, **__):
    raise RuntimeError("network at import")
socket.socket.connect = refuse
import torch
threads = torch.get_num_threads()
import pcdistill.cli
assert not torch.cuda.is_initialized()
assert torch.get_num_threads() == threads
changed = {k for k in os.environ.keys() | before.keys() if os.environ.get(k) != before.get(k)}
assert not [k for k in changed if not k.startswith(("KMP", "TORCH", "PYTORCH"))], changed
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
