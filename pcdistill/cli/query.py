"""Commands on a finished run: ask it, take its labels."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from pcdistill.cli.words import (
    OptionalCosine,
    OptionalPath,
    OptionalText,
    make_console,
    scene_progress,
    uncollected,
)
from pcdistill.errors import ConfigError

if TYPE_CHECKING:
    from pcdistill.inference import Response


Texts = Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...", help_behavior_hint="")]


def query(
    run: Positional[Path],
    text: Positional[Annotated[str, tyro.conf.arg(metavar="TEXT")]],
    synonyms: Texts = (),
    negatives: Texts = (),
    scene: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="SCENE ...", help_behavior_hint="")
    ] = (),
    top_k: int = 5,
    min_similarity: OptionalCosine = None,
    method: OptionalText = None,
    draw: Literal["best", "all", "none"] = "best",
    format: Literal["table", "json", "csv"] = "table",
) -> int:
    """Ask a finished run where something is.

    Args:
        run: Workspace of the run.
        text: What to look for, in plain words.
        synonyms: Further texts that ask for the same; of all, the one that fits best counts.
        negatives: What is not meant; places that fit it better are no answers.
        scene: Scenes to look in; by default all that are measured.
        top_k: How many places to list.
        min_similarity: Cosine that a place has to exceed; by default it comes from the features.
        method: Whose features answer, such as fused or student:point; by default the best measured.
        draw: Scenes of which a coloured cloud and a picture are written.
        format: What is printed: a table, or all that is known of each place as JSON or CSV.
    """
    if top_k < 1:
        raise ConfigError(f"--top-k is {top_k}, expected at least 1")
    with uncollected():
        from pcdistill.inference import Question, answer_rows, open_run, response_record

        question = Question(text, synonyms, negatives, min_similarity)
        response = open_run(run).querier.query(question, scene, top_k, method, draw)
    if format == "table":
        _print_table(response)
    elif format == "json":
        sys.stdout.write(json.dumps(response_record(response), indent=2, allow_nan=False) + "\n")
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows(answer_rows(response))
    return 0


def _print_table(response: Response) -> None:
    from rich import box
    from rich.table import Table

    from pcdistill.inference import why_no_answer

    console = make_console()
    if not console.is_terminal:
        console.width = max(console.width, 200)  # a pipe has no edge to wrap at
    if response.answers:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("scene", "class", "relevancy", "centre (m)", "size (m)", "points", "share"):
            table.add_column(heading, no_wrap=True)
        for answer in response.answers:
            table.add_row(
                answer.scene,
                answer.looks_like,
                f"{answer.relevancy:.2f}",
                " ".join(f"{value:.1f}" for value in answer.box.center),
                " x ".join(f"{value:.1f}" for value in answer.box.size),
                str(answer.points),
                f"{100 * answer.fraction:.1f} %",
            )
        console.print(table)
        console.print(f"answered by {response.method}", markup=False)
    else:
        console.print(why_no_answer(response), markup=False)
    for path in response.files:
        console.print(str(path), markup=False)


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
