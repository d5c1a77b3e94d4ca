"""Loader of a run's YAML file: unknown keys and wrong types are errors with a suggestion."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from pcdistill.errors import ConfigError, require_text
from pcdistill.pipeline.config import (
    DistillConfig,
    GeneralConfig,
    IngestConfig,
    RunConfig,
    SynthesizeConfig,
)
from pcdistill.pipeline.workspace_format import require_known_format
from pcdistill.pipeline.yaml_text import parse_yaml
from pcdistill.size_limits import HOW_TO_RAISE, raised, read_bounded
from pcdistill.suggest import suggest

Section = TypeVar("Section", "GeneralConfig", "IngestConfig", "DistillConfig")


_MAX_BYTES = 1 << 20
"""Of a configuration; those of the package have some kilobytes."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run's YAML file, then apply `section.key=value` overrides.

    Raises:
        ConfigError: the file is missing or not YAML, a section or key is unknown, or a value is
            of the wrong kind or out of range.
    """
    try:
        content = read_bounded(path, _MAX_BYTES)
        text = "" if content is None else content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; give the YAML file of a run") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give the YAML file of a run") from None
    if content is None:
        raise ConfigError(
            f"{path} has more than {raised(_MAX_BYTES)} bytes, expected the YAML file of a run; "
            f"give that, or, {HOW_TO_RAISE}"
        )
    try:
        sections = parse_yaml(text) or {}
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML at {error}; correct it") from None
    if not isinstance(sections, dict):
        raise ConfigError(
            f"{path}: found {type(sections).__name__}, expected sections as a mapping"
        )
    for override in overrides:
        _apply_override(sections, override)
    config = config_from_dict(sections, str(path))
    return dataclasses.replace(
        config,
        ingest=_located(config.ingest, ("path", "train_list", "validation_list"), path.parent),
        distill=_located(config.distill, ("pretrained",), path.parent),
        run=_located_run(config.run, path.parent),
        synthesize=_located_model(config.synthesize, path.parent),
    )


def _located_run(run: GeneralConfig, folder: Path) -> GeneralConfig:
    named = [key for key in ("label_set", "vocabulary") if _is_file_name(getattr(run, key))]
    weights = {name: _absolute(file, folder) for name, file in run.weights.items()}
    return dataclasses.replace(_located(run, [*named, "weights_folder"], folder), weights=weights)


def _located_model(synthesize: SynthesizeConfig, folder: Path) -> SynthesizeConfig:
    """Make the path of a diffusion model absolute where there is such a folder."""
    found = _absolute(synthesize.model, folder)
    return dataclasses.replace(synthesize, model=found) if Path(found).is_dir() else synthesize


def _is_file_name(value: str) -> bool:
    """Whether a label set or vocabulary is that of a file, not one that comes with the package."""
    return value.endswith(".json") or Path(value).name != value


def _located(section: Section, keys: Sequence[str], folder: Path) -> Section:
    """Make paths absolute: seen from the current folder, else from that of the config.

    Args:
        section: of the configuration.
        keys: those of its settings that are paths or None.
        folder: of the YAML file.
    """
    whole: dict[str, Any] = {}
    for key in keys:
        value = getattr(section, key)
        if value is not None:
            whole[key] = _absolute(value, folder)
    return dataclasses.replace(section, **whole)


def _absolute(value: str, folder: Path) -> str:
    """A path seen from the current folder, else from `folder` if it is there."""
    given = Path(value).expanduser()
    here, beside = given.absolute(), (folder / given).absolute()
    return str(beside if _is_there(beside) and not _is_there(here) else here)


def _is_there(path: Path) -> bool:
    """Whether a path exists, or the folder before its last colon (`WORKSPACE:STUDENT`)."""
    folder, colon, _ = str(path).rpartition(":")
    return path.exists() or (bool(colon) and Path(folder).is_dir())


def config_from_dict(sections: Mapping[str, Any], source: str) -> RunConfig:
    """Build a run's configuration from a mapping of sections, and check it.

    Raises:
        ConfigError: see `load_config`; messages begin with `source`.
    """
    kinds = get_type_hints(RunConfig)
    made = {}
    for name, values in sections.items():
        if name not in kinds:
            raise ConfigError(f"{source}: unknown section '{name}'; {suggest(str(name), kinds)}")
        made[name] = _section(kinds[name], name, {} if values is None else values, source)
    try:
        return RunConfig(**made)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Convert a configuration to plain JSON values; `config_from_dict` reads it back."""
    plain: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_plain(dataclasses.asdict(config))))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _apply_override(sections: dict[str, Any], override: str) -> None:
    setting, equals, value = override.partition("=")
    section, dot, key = setting.partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(
            f"--set {override}: expected section.key=value, such as distill.epochs=50"
        )
    values = sections.get(section)
    if values is None:
        values = sections[section] = {}
    if not isinstance(values, dict):
        raise ConfigError(f"--set {override}: section '{section}' is not a mapping")
    try:
        values[key] = parse_yaml(value)
    except ValueError:
        raise ConfigError(f"--set {override}: '{value}' is not a YAML value") from None


def _section(kind: Any, name: str, values: Any, source: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: section '{name}' is {type(values).__name__}, expected key: value pairs"
        )
    wanted = get_type_hints(kind)
    made = {}
    for key, value in values.items():
        if key not in wanted:
            hint = suggest(str(key), wanted)
            raise ConfigError(f"{source}: unknown key '{name}.{key}'; {hint}")
        made[key] = _value(wanted[key], f"{name}.{key}", value, source)
    try:
        return kind(**made)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _value(kind: Any, setting: str, value: Any, source: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in arguments:
            return value
        hint = suggest(str(value), map(str, arguments))
        raise ConfigError(f"{source}: {setting} is '{value}'; {hint}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (a for a in arguments if a is not type(None))
        return _value(inner, setting, value, source)
    if origin is Mapping:
        return _mapping(arguments[1], setting, value, source)
    if origin is tuple:
        return _tuple(arguments, setting, value, source)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML reads 1e-3 as text
        raise ConfigError(
            f"{source}: {setting} is the text '{value}', expected a number; "
            "write it with a point, such as 1.0e-3"
        )
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{source}: {setting} is {value}, expected a number that is finite")
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
        raise ConfigError(
            f"{source}: {setting} is {value!r}, expected {_KIND_NAMES.get(kind, kind.__name__)}"
        )
    if isinstance(value, str):
        require_text(f"{source}: {setting}", value)
    return value


def _tuple(arguments: tuple[Any, ...], setting: str, value: Any, source: str) -> tuple[Any, ...]:
    repeated = len(arguments) == 2 and arguments[1] is Ellipsis
    expected = "a list" if repeated else f"a list of {len(arguments)} values"
    if not isinstance(value, list | tuple) or not (repeated or len(value) == len(arguments)):
        raise ConfigError(f"{source}: {setting} is {value!r}, expected {expected}")
    kinds = [arguments[0]] * len(value) if repeated else arguments
    return tuple(
        _value(kind, f"{setting}[{index}]", item, source)
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _mapping(kind: Any, setting: str, value: Any, source: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{source}: {setting} is {value!r}, expected a mapping of names")
    for key in value:
        require_text(f"{source}: {setting}", str(key))
    return {str(key): _value(kind, f"{setting}.{key}", item, source) for key, item in value.items()}


_KIND_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def load_workspace_config(workspace: Path) -> RunConfig:
    """Load the configuration of a run by its workspace, wherever that lies now.

    Args:
        workspace: its folder, or the configuration file of a run.

    Raises:
        ConfigError: there is neither, or a newer version wrote the workspace.
    """
    path = workspace / "config.yaml" if workspace.is_dir() else workspace
    if not path.exists():
        raise ConfigError(
            f"{workspace}: found no config.yaml of a run there; give the workspace of a run, "
            "such as runs/demo"
        )
    if workspace.is_dir():
        require_known_format(workspace)
    config = load_config(path)
    if workspace.is_dir():  # it may have been moved since
        config = replace(config, run=replace(config.run, workspace=str(workspace)))
    return config
