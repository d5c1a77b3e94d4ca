"""Command `settings`: explains the settings of a run's YAML file."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import make_console

if TYPE_CHECKING:
    from rich.text import Text

    from pcdistill.pipeline import Section, Setting

_MAX_WIDTH = 100
"""Columns of text that are still read with ease."""
_INDENT = "      "

_SECTION = tyro.conf.arg(metavar="SECTION", help_behavior_hint="")


def settings(
    section: Positional[Annotated[str | None, _SECTION]] = None, schema: bool = False
) -> int:
    """Explain every setting of the YAML file, or those of one section.

    Args:
        section: Section such as distill, or one setting such as distill.epochs; by default all.
        schema: Print the JSON schema instead, for editors.
    """
    from pcdistill.pipeline import find_settings

    if schema:
        from pcdistill.pipeline import schema_text

        sys.stdout.write(schema_text())
        return 0
    console = make_console()
    width = min(console.width, _MAX_WIDTH)
    for place, found in enumerate(find_settings(section)):
        if place:
            console.print()
        console.print(section_text(found, width))
    return 0


def section_text(section: Section, width: int) -> Text:
    """Format a section as it could be in the YAML file, each setting with its meaning below it."""
    from rich.text import Text

    text = Text()
    text.append(f"{section.name}:", style="bold")
    text.append(f"  # {section.text}")
    for setting in section.settings:
        text.append("\n")
        text.append_text(_setting_text(setting, width))
    return text


def _setting_text(setting: Setting, width: int) -> Text:
    from rich.text import Text

    from pcdistill.pipeline import kind_in_words

    line = f"  {setting.name}: {_as_yaml(setting.default)}"
    kind = f"# {kind_in_words(setting.kind)}"
    fold = textwrap.TextWrapper(width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    text = Text()
    text.append(line, style="bold")
    if len(line) + 2 + len(kind) <= width:
        text.append(f"  {kind}", style="dim")
    else:
        fold.subsequent_indent = f"{_INDENT}# "
        text.append("\n" + "\n".join(fold.wrap(kind)), style="dim")
        fold.subsequent_indent = _INDENT
    text.append("\n" + "\n".join(fold.wrap(setting.text)))
    return text


def _as_yaml(value: Any) -> str:
    import yaml

    plain = list(value) if isinstance(value, tuple) else value
    written: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return written.removesuffix("\n").removesuffix("\n...")
