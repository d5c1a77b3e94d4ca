"""JSON schema of a run's YAML file, for completion and checks in editors."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pcdistill.pipeline.config_docs import Section, Setting, describe_sections


def config_schema() -> dict[str, Any]:
    """Build the schema (draft 7) of all sections: kinds, choices, defaults and texts."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pcdistill run",
        "description": "One YAML file describes one run; what it leaves out has its default.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {section.name: _section(section) for section in describe_sections()},
    }


def schema_text() -> str:
    """Format the schema as it is stored in pcdistill/configs/schema.json."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def _section(section: Section) -> dict[str, Any]:
    return {
        "description": section.text,
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {setting.name: _setting(setting) for setting in section.settings},
    }


def _setting(setting: Setting) -> dict[str, Any]:
    default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    return {"description": setting.text, **_kind(setting.kind), "default": default}


def _kind(kind: Any) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        (inner,) = (_kind(a) for a in arguments if a is not type(None))
        return {"anyOf": [inner, {"type": "null"}]}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _kind(arguments[0])}
    if origin is tuple:
        items = [_kind(argument) for argument in arguments]
        return {"type": "array", "items": items, "minItems": len(items), "maxItems": len(items)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _kind(arguments[1])}
    return {"type": _NAMES[kind]}


_NAMES = {int: "integer", float: "number", str: "string", bool: "boolean"}
