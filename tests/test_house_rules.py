"""Rules of the house that a change can break without noticing: layers, faces, who opens files."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pcdistill"

LAYERS = (
    {
        "errors",
        "suggest",
        "atomic_io",
        "checksums",
        "callbacks",
        "jit",
        "labels",
        "lazy_face",
        "processes",
        "prompts",
        "size_limits",
        "tensor_files",
        "version",
    },
    {"geometry"},
    {"sparse", "fusion", "evaluation", "segmenters", "visualization"},
    {"scenes"},
    {"teachers", "networks"},
    {"homes", "doctor", "lifting", "distillation"},
    {"capability"},
    {"pipeline"},
    {"artifacts"},
    {"inference"},
    {"reporting", "training", "viewer"},
    {"stages"},
    {"cli"},
)
"""Rooms and plain modules; each may import only what stands in a layer before its own."""
LEAVES = LAYERS[0]
"""Plain modules, which may import each other."""
INNER_FACES = {"scenes.checks", "teachers.demo"}
"""Folders inside of rooms that have a face of their own."""
WITHOUT_FACE = {"cli", "configs"}
ABOVE_ARTIFACTS = {"pipeline", "artifacts", "stages", "cli"}
"""Where functions may take a section of the configuration."""
MAX_CONTEXT_TAKERS = 40
"""Functions that may take the context of a run; others take what they use of it."""
MAY_OPEN = {
    *(
        "atomic_io",
        "checksums",
        "lazy_face",
        "processes",
        "prompts",
        "scenes",
        "size_limits",
        "pipeline",
        "artifacts",
        "cli",
        "tensor_files",
    ),
    *("networks.checkpoints", "teachers.demo.network", "teachers.detector.network"),
    *("capability.generators.diffusion_folder", "distillation.history_file"),
    *(
        "reporting.write_report",
        "reporting.run_card",
        "reporting.write_comparison",
        "reporting.write_files_report",
        "teachers.state_dicts",
        "teachers.script_archive",
    ),
    *(
        "teachers.embedding_cache",
        "teachers.digest_cache",
        "teachers.hub_parts",
        "teachers.weight_download",
        "teachers.captions.tap.pieces",
    ),
}
"""Rooms and modules in which files are opened."""
OPENING = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "safe_open", "save_file"}
READERS_THAT_USE_OTHERS = {
    ("nerfstudio", "colmap"): "nerfstudio data may come with COLMAP's model",
    ("scannetpp", "colmap"): "its poses are COLMAP's",
    ("scannetpp", "scannet"): "its annotations are ScanNet's",
    ("arkitscenes", "capture"): "shared by captures",
}
SHARED_BY_READERS = {"base", "capture", "detection"}
OPTIONAL = {
    *("open_clip", "diffusers", "segment_anything", "transformers", "viser", "gsplat", "triton"),
    *(
        "MinkowskiEngine",
        "laspy",
        "lazrs",
        "rerun",
        "trimesh",
        "pye57",
        "ray",
        "open3d",
        "lzfse",
        "OpenEXR",
    ),
    *("tensorflow", "huggingface_hub"),
}
AT_THE_TOP = {("sparse.engines.triton_kernels", "triton")}
"""A file of kernels is nothing without its compiler; it is imported inside a function."""


class Import(NamedTuple):
    """One name that a module imports of the package."""

    written: str
    """Module it is imported from, without `pcdistill.`."""
    name: str
    module: str
    """The module that is loaded: `written`, or the submodule that is the name itself."""


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imports(module: str) -> Iterator[Import]:
    """All imports of the package in a module, those inside of functions included."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module.split(".")[0] != "pcdistill":
            continue
        written = node.module.removeprefix("pcdistill").removeprefix(".")
        for alias in node.names:
            below = f"{written}.{alias.name}".removeprefix(".")
            is_module = below in MODULES and alias.name not in face(written)
            yield Import(written, alias.name, below if is_module else written)


def face(package: str) -> set[str]:
    """Names of the `__all__` of a package; none for a plain module."""
    file = MODULES.get(package)
    if not package or file is None or file.name != "__init__.py":
        return set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def room(module: str) -> str:
    return module.split(".")[0]


def layer(module: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room(module) in rooms)


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_every_module_has_a_layer_and_imports_only_from_those_below(module):
    assert any(room(module) in rooms for rooms in LAYERS), f"{room(module)} is in no layer"
    for one in imports(module):
        if one.module and room(one.module) != room(module):
            low = layer(one.module) < layer(module) or {room(module), room(one.module)} <= LEAVES
            assert low, f"{module} imports {one.module}"


def test_no_stage_imports_a_stage_and_only_the_command_line_imports_stages():
    for module in MODULES:
        for one in imports(module):
            if one.module.split(".")[0] == "stages":
                assert module == "stages" or room(module) == "cli", f"{module}: {one.module}"


def test_other_rooms_are_entered_by_their_faces_only():
    for module in MODULES:
        for one in imports(module):
            if not one.module or room(one.module) == room(module) or room(one.module) in LEAVES:
                continue
            entrance = ".".join(one.module.split(".")[:2])
            entrance = entrance if entrance in INNER_FACES else room(one.module)
            assert one.module == entrance, f"{module} imports {one.name} from {one.module}"
            assert one.name in face(entrance), f"{entrance} does not offer {one.name}"


@pytest.mark.parametrize("name", sorted({*LAYERS[-1].union(*LAYERS) - LEAVES, *INNER_FACES}))
def test_every_room_names_its_public_face(name):
    tree = ast.parse(MODULES[name].read_text())
    assert ast.get_docstring(tree)
    assert face(name) or name in WITHOUT_FACE


def test_a_lazy_face_offers_no_name_of_its_own_modules():
    """Once the module is loaded, the name would be the module: Python sets it as an attribute."""
    lazy = [name for name, file in MODULES.items() if "lazy_face(" in file.read_text()]
    assert len(lazy) > 1
    for package in lazy:
        for name in face(package):
            assert f"{package}.{name}" not in MODULES, f"{package} offers {name}"


def test_formats_and_checks_know_no_reader_and_readers_no_other():
    for module in MODULES:
        for one in imports(module):
            if not one.module.startswith("scenes.readers."):
                continue
            assert not module.startswith(("scenes.formats", "scenes.checks")), module
            if not module.startswith("scenes.readers."):
                continue
            own, other = module.split(".")[2], one.module.split(".")[2]
            allowed = own == other or other in SHARED_BY_READERS or own == "detection"
            assert allowed or (own, other) in READERS_THAT_USE_OTHERS, f"{module}: {one.module}"


def test_no_circle_of_modules():
    graph = {name: {one.module for one in imports(name)} - {name} for name in MODULES}
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        state[name] = 1
        for other in sorted(graph.get(name, ())):
            assert state.get(other) != 1, " -> ".join((*path, name, other))
            if other not in state:
                visit(other, (*path, name))
        state[name] = 2

    for name in graph:
        if name not in state:
            visit(name, ())


def test_no_private_name_is_taken_from_another_module():
    for module in MODULES:
        for one in imports(module):
            private = one.name.startswith("_") and not one.name.startswith("__")
            assert not private, f"{module} takes {one.name} from {one.written}"


def test_optional_packages_are_imported_inside_functions_of_one_file_each():
    where: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} & OPTIONAL:
                where.setdefault(name, set()).add(module)
                inside = node.col_offset > 0 or (module, name) in AT_THE_TOP
                assert inside, f"{module} imports {name} at its top"
    assert all(len(files) == 1 for files in where.values()), where


def test_files_are_opened_in_few_places():
    for module, file in MODULES.items():
        if {module, room(module)} & MAY_OPEN:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func).split(".")[-1]
                assert called not in OPENING, f"{module}, line {node.lineno}: {called}"


def annotations(module: str) -> Iterator[tuple[str, str]]:
    """(function, annotation) of every parameter in a module."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.FunctionDef):
            for argument in (*node.args.args, *node.args.kwonlyargs):
                if argument.annotation is not None:
                    yield node.name, ast.unparse(argument.annotation)


def test_configurations_stop_at_the_door():
    taking = []
    for module in MODULES:
        for function, annotation in annotations(module):
            if "RunContext" in annotation:
                taking.append(f"{module}.{function}")
            if room(module) not in ABOVE_ARTIFACTS:
                assert not annotation.endswith("Config"), f"{module}.{function}: {annotation}"
                assert "RunContext" not in annotation, f"{module}.{function}"
    assert len(taking) <= MAX_CONTEXT_TAKERS, taking


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
import pcdistill.cli, pcdistill.stages
assert not torch.cuda.is_initialized()
assert torch.get_num_threads() == threads
changed = {k for k in os.environ.keys() | before.keys() if os.environ.get(k) != before.get(k)}
assert not [k for k in changed if not k.startswith(("KMP", "TORCH", "PYTORCH"))], changed
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
