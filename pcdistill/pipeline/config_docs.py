"""Documentation of the settings as data: name, kind, default, and the text that explains each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import types
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pcdistill.errors import ConfigError
from pcdistill.pipeline.config import RunConfig
from pcdistill.suggest import suggest


class Setting(NamedTuple):
    """One key of a section."""

    name: str
    kind: Any
    """Its type annotation."""
    default: Any
    """As the dataclass has it; lists are tuples."""
    text: str
    """What it means, in one paragraph."""


class Section(NamedTuple):
    """One section of the YAML file."""

    name: str
    text: str
    settings: tuple[Setting, ...]


def describe_sections() -> tuple[Section, ...]:
    """List all sections with their settings, in the order of the configuration."""
    kinds = get_type_hints(RunConfig)
    return tuple(
        Section(
            field.name,
            _one_paragraph(kinds[field.name].__doc__ or ""),
            _settings(kinds[field.name]),
        )
        for field in dataclasses.fields(RunConfig)
    )


def find_settings(wanted: str | None) -> tuple[Section, ...]:
    """Find the sections that a name chooses: all for None, else `SECTION` or `SECTION.KEY`.

    Raises:
        ConfigError: there is no such section or setting; says which was probably meant.
    """
    sections = describe_sections()
    if wanted is None:
        return sections
    name, dot, key = wanted.partition(".")
    found = {section.name: section for section in sections}
    if name not in found:
        raise ConfigError(f"unknown section '{name}'; {suggest(name, list(found))}")
    section = found[name]
    if not dot:
        return (section,)
    settings = {setting.name: setting for setting in section.settings}
    if key not in settings:
        raise ConfigError(f"unknown setting '{name}.{key}'; {suggest(key, list(settings))}")
    return (section._replace(settings=(settings[key],)),)


def kind_in_words(kind: Any) -> str:
    """Say what values a setting takes, such as "whole number" or "one of: a, b"."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of: {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        inner = [kind_in_words(a) for a in arguments if a is not type(None)]
        return " or ".join([*inner, "null"])
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {_plural(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} {_plural(arguments[0])}"
    if origin is Mapping:
        return f"mapping of names to {_plural(arguments[1])}"
    return _WORDS[kind]


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _plural(kind: Any) -> str:
    words = kind_in_words(kind)
    return f"{words}s" if kind in (int, float, str) else words.replace("one of", "any of")


def _settings(kind: Any) -> tuple[Setting, ...]:
    hints, texts = get_type_hints(kind), _attribute_texts(kind)
    return tuple(
        Setting(field.name, hints[field.name], _default(field), texts.get(field.name, ""))
        for field in dataclasses.fields(kind)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _attribute_texts(kind: type) -> dict[str, str]:
    """Attribute -> the string below it, of a dataclass and those it inherits from."""
    texts: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        (node,) = ast.parse(inspect.getsource(base)).body
        texts |= _texts_below(node.body if isinstance(node, ast.ClassDef) else ())
    return texts


def _texts_below(body: Sequence[ast.stmt]) -> dict[str, str]:
    texts = {}
    for attribute, below in pairwise(body):
        if (
            isinstance(attribute, ast.AnnAssign)
            and isinstance(attribute.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            texts[attribute.target.id] = _one_paragraph(below.value.value)
    return texts


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
