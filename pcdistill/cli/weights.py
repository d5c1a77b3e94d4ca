"""Command `weights`: the weights of other authors, which are never downloaded unasked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import OptionalPath, make_console
from pcdistill.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from pcdistill.teachers import WeightFile

_NAMES = tyro.conf.arg(metavar="[NAME ...]", help_behavior_hint="")
_MEGA = 1e6


def weights(
    action: Positional[Literal["list", "fetch", "verify", "where"]],
    names: Positional[Annotated[tuple[str, ...], _NAMES]] = (),
    folder: OptionalPath = None,
) -> int:
    """Say where weights come from and where they are here; fetch those that you name.

    Args:
        action: list: source, size, license, access and checksum of each; fetch: download those that
            are named; verify: compare files with the published checksums; where: print the folder
            and what is in it.
        names: Which weights, as `list` has them; by default all, but fetch wants names.
        folder: Where the files are; by default that of PCDISTILL_WEIGHTS, else
            ~/.cache/pcdistill/weights.
    """
    from pcdistill.teachers import WEIGHT_FILES, WeightStore, find_weight_entry

    if action == "fetch" and not names:
        raise ConfigError(
            "pcdistill weights fetch wants the names of weights, such as "
            f"`pcdistill weights fetch clip-vit-b-32`; there are: {', '.join(WEIGHT_FILES)}"
        )
    chosen = [find_weight_entry(name) for name in names or WEIGHT_FILES]
    place, console = WeightStore(folder).folder, make_console()
    if action == "list":
        return _list(chosen, place, console)
    if action == "fetch":
        return _fetch(chosen, place, console)
    if action == "verify":
        return _verify(chosen, place, console, wanted=bool(names))
    console.print(str(place), soft_wrap=True, markup=False)
    return _where(chosen, place, console)


def describe_weights(known: WeightFile, place: Path) -> str:
    """Say all that is known of one file or folder of weights, in some lines.

    Args:
        known: the entry.
        place: the folder in which it is looked for.
    """
    from pcdistill.teachers import how_to_get, is_folder, missing_parts

    path, state = place / known.file_name, "here"
    if not path.exists():
        state = "not here"
    elif missing := missing_parts(known, path):
        state = f"not complete, without {', '.join(missing)}"
    size = "unknown" if known.size is None else f"{known.size / _MEGA:.0f} MB"
    access = {True: "an account must accept terms first", False: "open", None: "unknown"}
    checksum = f"SHA-256 {known.sha256}" if known.sha256 else "none published"
    if known.md5_prefix:
        checksum = f"MD5 {known.md5_prefix}..."
    page = "" if known.direct else " (a page: fetch it yourself)"
    how = how_to_get(known, place) if is_folder(known) and not known.direct else ""
    lines = [
        f"{known.name}: {known.file_name}, {state}",
        f"  for       {known.note}" if known.note else "",
        f"  from      {known.address}{page}",
        f"  how       {how}" if how else "",
        f"  license   {known.license}",
        f"  trained   on {known.training}",
        f"  size      {size}",
        f"  access    {access[known.gated]}",
        f"  checksum  {checksum}",
    ]
    return "\n".join(line for line in lines if line)


def _list(chosen: list[WeightFile], place: Path, console: Console) -> int:
    for known in chosen:
        text = describe_weights(known, place)
        console.print(text, soft_wrap=True, markup=False, highlight=False)
    return 0


def _where(chosen: list[WeightFile], place: Path, console: Console) -> int:
    here = [known for known in chosen if (place / known.file_name).exists()]
    for known in here:
        console.print(f"  {known.name}: {known.file_name}", soft_wrap=True, markup=False)
    if not here:
        console.print("  nothing that a teacher, text encoder or segmenter reads", soft_wrap=True)
    return 0


def _fetch(chosen: list[WeightFile], place: Path, console: Console) -> int:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from pcdistill.teachers import fetch_weights

    for known in chosen:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(known.name, total=None)

            def report(done: int, total: int | None) -> None:
                bar.update(task, completed=done, total=total)  # noqa: B023 (used in the loop)

            path = fetch_weights(known, place, report)
        console.print(f"{known.name}: {path}", soft_wrap=True, markup=False)
    return 0


def _verify(chosen: list[WeightFile], place: Path, console: Console, *, wanted: bool) -> int:
    from pcdistill.teachers import WeightStore, require_published

    store, wrong = WeightStore(place), 0
    for known in chosen:
        path = place / known.file_name
        if not path.exists():
            if wanted:
                store.find(known.name)  # says where to get it
            continue
        try:
            published = path.is_file() and require_published(known, path)
            text = "is as published" if published else "has no published checksum to compare"
            text = f"{text}, revision {store.revision(known.name)}"
        except (ArtifactError, ConfigError) as error:
            text, wrong = str(error), wrong + 1
        console.print(f"{known.name}: {text}", soft_wrap=True, markup=False, highlight=False)
    return 1 if wrong else 0
