"""YAML of a configuration: plain values only, no key twice, and no more than it looks like."""

from __future__ import annotations

from typing import Any

import yaml

MAX_NODES = 100_000
"""Values after aliases are followed; ten lines of aliases of aliases are more than memory holds."""


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses a key that is given twice, of which the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            if name in first:
                raise yaml.constructor.ConstructorError(
                    problem=f"'{name}' is given twice, first in line {first[name]}",
                    problem_mark=key.start_mark,
                )
            first[name] = line
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values; no tag of it makes an object.

    Raises:
        ValueError: it is not valid, or too much; the text says where and what.
    """
    try:
        return _load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "somewhere"
        problem = getattr(error, "problem", None) or "a syntax error"
        raise ValueError(f"{where}: {problem}") from None
    except RecursionError:
        raise ValueError("somewhere: values too deep inside of each other") from None
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise ValueError(f"somewhere: {reason}") from None  # such as a date in month 13


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values, aliases followed")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node is, each alias counted as what it stands for."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # for what contains itself
        below = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_size(one, known) for one in below)
    return known[id(node)]
