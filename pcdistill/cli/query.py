"""Commands on a finished run: ask it, take its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import (
    OptionalPath,
    OptionalText,
    make_console,
    scene_progress,
    uncollected,
)
from pcdistill.errors import ConfigError


def query(
    run: Positional[Path],
    text: Positional[Annotated[str, tyro.conf.arg(metavar="TEXT")]],
    scene: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="SCENE ...", help_behavior_hint="")
    ] = (),
    top_k: int = 5,
    method: OptionalText = None,
    draw: Literal["best", "all", "none"] = "best",
) -> int:
    """Ask a finished run where something is.

    Args:
        run: Workspace of the run.
        text: What to look for, in plain words.
        scene: Scenes to look in; by default all that are measured.
        top_k: How many places to list.
        method: Whose features answer, such as fused or student:point; by default the best measured.
        draw: Scenes of which a coloured cloud and a picture are written.
    """
    if top_k < 1:
        raise ConfigError(f"--top-k is {top_k}, expected at least 1")
    with uncollected():
        from rich import box
        from rich.table import Table

        from pcdistill.inference import open_run

        response = open_run(run).query(text, scene, top_k=top_k, method=method, draw=draw)
    console = make_console()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no edge to wrap at
    if not response.answers and response.best_similarity <= -1:
        console.print(
            "nothing is known of any place here: the teachers found nothing that they know "
            f"({response.method}, {len(response.scenes)} scenes); name others in run.teachers",
            markup=False,
        )
    elif not response.answers:
        console.print(
            f"nothing here looks like that: the nearest place has similarity "
            f"{response.best_similarity:.2f} with '{text}', more than {response.floor:.2f} is "
            f"asked for ({response.method}, {len(response.scenes)} scenes)",
            markup=False,
        )
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("scene", "class", "relevancy", "centre (m)", "size (m)", "points", "share"):
            table.add_column(heading, no_wrap=True)
        for answer in response.answers:
            table.add_row(
                answer.scene,
                answer.looks_like,
                f"{answer.relevancy:.2f}",
                " ".join(f"{value:.1f}" for value in answer.position),
                " x ".join(f"{value:.1f}" for value in answer.size),
                str(answer.points),
                f"{100 * answer.fraction:.1f} %",
            )
        console.print(table)
        console.print(f"answered by {response.method}", markup=False)
    for path in response.files:
        console.print(str(path), markup=False)
    return 0


def export(
    run: Positional[Path],
    to: OptionalPath = None,
    method: OptionalText = None,
    format: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="FORMAT ...", help_behavior_hint="")
    ] = ("ply",),
    zip: bool = False,
) -> int:
    """Write the labelled points of every scene, in one or several formats.

    Args:
        run: Workspace of the run.
        to: Folder to write to; by default export/ of the workspace.
        method: Whose labels, such as fused or student:superpoint; by default the best measured.
        format: Any of ply, las, laz, npz, glb, rrd, and scannet (the files of ScanNet's benchmark).
        zip: Pack the files of format scannet as the benchmark takes them.
    """
    from pcdistill.inference import open_run

    console = make_console()
    with scene_progress(console) as report:
        files = open_run(run).export(to, method, formats=format, zipped=zip, report=report)
    for path in files:
        console.print(str(path), markup=False)
    return 0
