"""E57 files for tests: through the real package, and through a stand-in of its shape."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Field(NamedTuple):
    """One field of every point."""

    values: np.ndarray
    low: float
    high: float
    kind: str = "double"  # or single, integer


class Scan(NamedTuple):
    """One scan of a file."""

    fields: dict[str, Field]
    limits: tuple[float, float] | None = None
    rotation: dict[str, float] | None = None
    translation: dict[str, float] | None = None


def write(package: Any, file: Path, scans: list[Scan]) -> None:
    """Write the scans with the real package."""
    lib = package.libe57
    content = package.E57(str(file), mode="w")
    image = content.image_file
    for scan in scans:
        node = lib.StructureNode(image)
        if scan.limits is not None:
            limits = lib.StructureNode(image)
            for name in ("Red", "Green", "Blue"):
                for end, value in zip(("Minimum", "Maximum"), scan.limits, strict=True):
                    limits.set(f"color{name}{end}", lib.FloatNode(image, value))
            node.set("colorLimits", limits)
        if scan.rotation is not None or scan.translation is not None:
            pose = lib.StructureNode(image)
            for part in ("rotation", "translation"):
                numbers = getattr(scan, part)
                if numbers is not None:
                    inner = lib.StructureNode(image)
                    for name, value in numbers.items():
                        inner.set(name, lib.FloatNode(image, value))
                    pose.set(part, inner)
            node.set("pose", pose)
        prototype = lib.StructureNode(image)
        for name, field in scan.fields.items():
            if field.kind == "integer":
                low, high = int(field.low), int(field.high)
                prototype.set(name, lib.IntegerNode(image, low, low, high))
            else:
                precision = lib.E57_SINGLE if field.kind == "single" else lib.E57_DOUBLE
                prototype.set(
                    name, lib.FloatNode(image, field.low, precision, field.low, field.high)
                )
        points = lib.CompressedVectorNode(image, prototype, lib.VectorNode(image, True))
        node.set("points", points)
        content.data3d.append(node)
        count = len(next(iter(scan.fields.values())).values)
        buffers = lib.VectorSourceDestBuffer()
        kept = []
        for name, field in scan.fields.items():
            kept.append(np.ascontiguousarray(field.values, dtype=np.float64))
            buffers.append(lib.SourceDestBuffer(image, name, kept[-1], count, True, True))
        writer = points.writer(buffers)
        writer.write(count)
        writer.close()
    content.close()


class _Node(dict):
    """A structure, or a value with the limits of its field."""

    def __init__(self, children=None, value=0.0, low=0.0, high=0.0):
        super().__init__(children or {})
        self._value, self._low, self._high = value, low, high

    def isDefined(self, name):
        return name in self

    def value(self):
        return self._value

    def minimum(self):
        return self._low

    def maximum(self):
        return self._high


def stand_in(scans: list[Scan]) -> types.ModuleType:
    """A package that gives these scans for every file."""

    class Buffer(NamedTuple):
        image: Any
        name: str
        values: np.ndarray
        count: int
        convert: bool
        scale: bool

    class Header:
        def __init__(self, scan: Scan):
            self.point_fields = list(scan.fields)
            self.point_count = len(next(iter(scan.fields.values())).values)
            children = {}
            if scan.limits is not None:
                children["colorLimits"] = _Node(
                    {
                        f"color{name}{end}": _Node(value=value)
                        for name in ("Red", "Green", "Blue")
                        for end, value in zip(("Minimum", "Maximum"), scan.limits, strict=True)
                    }
                )
            parts = {"rotation": scan.rotation, "translation": scan.translation}
            known = {part: numbers for part, numbers in parts.items() if numbers is not None}
            if known:
                children["pose"] = _Node(
                    {
                        part: _Node({name: _Node(value=value) for name, value in numbers.items()})
                        for part, numbers in known.items()
                    }
                )
            self.node = _Node(children)
            self.points = self
            self._scan = scan

        def prototype(self):
            return _Node({n: _Node(low=f.low, high=f.high) for n, f in self._scan.fields.items()})

        def reader(self, buffers):
            def read():
                for buffer in buffers:
                    buffer.values[:] = self._scan.fields[buffer.name].values

            return types.SimpleNamespace(read=read)

    class E57:
        scan_count = len(scans)
        image_file = None

        def __init__(self, path):
            pass

        def get_header(self, number):
            return Header(scans[number])

    package = types.ModuleType("pye57")
    package.E57 = E57
    package.libe57 = types.SimpleNamespace(
        VectorSourceDestBuffer=list, SourceDestBuffer=Buffer, StructureNode=lambda node: node
    )
    return package
