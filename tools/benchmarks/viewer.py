"""The viewer on a million points: until its page is there, and until an answer is seen.

A run is written with one generated hall and the features of one teacher for every point. Its
viewer is opened in headless Chromium, which renders without a graphics card: what is seen there
includes the drawing of all points by the processor. `browser_s` is the browser's own start, to an
empty window; `page_s` counts from the address to the first picture with the scene in a browser that
has drawn nothing yet, `again_s` the same in that browser once more, when its own parts are loaded:
`browser_s` and `page_s` together are what somebody waits who starts from nothing, `again_s` is the
viewer's part. `seen_s` from the last letter of a question to a picture of its answer;
`update_s` is the server's part of the latter, `recolor_s` that of another view, `places_s` the
list of places that follows an answer, `pick_s` finding a clicked point. All are medians of the
rounds.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from pcdistill.inference import open_run
from pcdistill.pipeline import RunContext, load_config, write_json, write_tensors
from pcdistill.pipeline.workspace import UnitRecord
from pcdistill.scenes import Scene, write_scene
from pcdistill.viewer import ViewerApp, ViewerSession

from .chromium import chromium_page

SCENE = "home-validation-0"
TEACHER = "demo-dense"
HALL = (20.0, 15.0, 4.0)
"""Length, width and height, metres."""
WORDS = ("wall", "floor", "sofa", "table", "bed", "chair")
QUESTIONS = ("couch", "a place to sleep", "chair", "table")
WINDOW = (1280, 760)
_SHOWN = (
    100,
    100,
    700,
    500,
)  # left, top, width, height of the part of the window that is looked at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=0, help="points drawn; 0 as in the viewer")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Open the viewer, ask, and look."""
    if arguments.points < 1000:
        raise SystemExit(f"--points is {arguments.points}, expected at least 1000")
    with tempfile.TemporaryDirectory() as name:
        folder = write_run(Path(name) / "run", arguments.points)
        begin = time.perf_counter()
        session = ViewerSession(open_run(folder))
        if arguments.budget:
            session.change(budget=arguments.budget)
        app = ViewerApp(session, port=0)
        start = time.perf_counter() - begin
        try:
            return {
                "points": arguments.points,
                "drawn_at_most": session.state.budget,
                "start_s": round(start, 2),
                **measure(app, arguments.rounds),
            }
        finally:
            app.close()


def measure(app: ViewerApp, rounds: int) -> dict[str, float]:
    """Medians of seconds, by name."""
    seconds: dict[str, list[float]] = {}

    def note(name: str, begin: float) -> None:
        seconds.setdefault(name, []).append(time.perf_counter() - begin)

    for _ in range(rounds):
        begin = time.perf_counter()
        with chromium_page(*WINDOW) as (page, _):
            note("browser_s", begin)
            for name in ("page_s", "again_s"):
                page.goto("about:blank")
                begin = time.perf_counter()
                page.goto(f"http://localhost:{app.port}")
                wait_until(page, lambda picture: (picture.min(axis=2) < 160).mean() > 0.2)
                note(name, begin)
            find = page.locator("xpath=//label[text()='Find']/following::input[1]")
            for question in QUESTIONS:
                page.wait_for_timeout(2000)
                before = look(page)
                begin = time.perf_counter()
                find.fill(question)
                wait_until(page, differs_from(before))
                note("seen_s", begin)
        for question in QUESTIONS:
            begin = time.perf_counter()
            app.session.ask(question)
            app.draw()
            note("update_s", begin)
            begin = time.perf_counter()
            app.session.find_places()
            note("places_s", begin)
        for view in ("truth", "fused"):
            app.session.content.coloring(view)
            app.session.change(view=view)
            begin = time.perf_counter()
            app.draw()
            note("recolor_s", begin)
        begin = time.perf_counter()
        panes = app.session.panes(app.session.camera())
        app.session.pick(panes, (10, 7, 9), (0, 0, -1), (10, 7, 9))
        note("pick_s", begin)
        app.ask("")
    return {name: round(statistics.median(found), 2) for name, found in seconds.items()}


def wait_until(page: Any, is_there: Callable[[Any], bool], patience: float = 120.0) -> None:
    """Look at the page until it shows something.

    Args:
        page: of the browser.
        is_there: is given an (H, W, 3) uint8 picture.
        patience: seconds.
    """
    end = time.monotonic() + patience
    while not is_there(look(page)):
        if time.monotonic() > end:
            raise SystemExit(f"nothing is seen after {patience:.0f} s")


def differs_from(old: Any) -> Callable[[Any], bool]:
    """Whether a picture is another than `old`, (H, W, 3) uint8, in a hundredth of its values."""
    return lambda picture: bool((picture != old).mean() > 0.01)


def look(page: Any) -> Any:
    """(H, W, 3) uint8: a part of the window where the scene is."""
    clip = dict(zip(("x", "y", "width", "height"), _SHOWN, strict=True))
    return np.array(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))


def write_run(root: Path, points: int) -> Path:
    """Write a run of one lifted scene, as a run with that one teacher would leave it."""
    root.mkdir(parents=True)
    settings = {
        "run": {"workspace": str(root), "teachers": [TEACHER]},
        "ingest": {"source": "homes", "train": 1, "validation": 1},
        "distill": {"students": ["superpoint"]},
    }
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    context = RunContext(load_config(root / "config.yaml"))
    scene, pieces = make_scene(points)
    write_scene(scene, context.workspace.scene(SCENE))
    write_tensors(context.workspace.superpoints(SCENE), {"superpoint_ids": pieces}, {})
    said = context.words.vocabulary_embeddings[
        torch.tensor([context.words.vocabulary.index(word) for word in WORDS])
    ]
    labels = pieces.long() % len(WORDS)
    features = said[labels].half()  # (N, D)
    tensors = {
        "features": features,
        "seen": torch.arange(points),
        "views": torch.full((points,), 5, dtype=torch.int32),
    }
    write_tensors(context.workspace.point_features(TEACHER, SCENE), tensors, {})
    skills = dict.fromkeys(context.words.vocabulary, 0.5)
    capability = {"capability": skills, "selective": False}
    write_json(context.workspace.capability(TEACHER), capability)
    for stage, unit in (("partition", SCENE), ("lift", f"{TEACHER}/{SCENE}"), ("score", TEACHER)):
        context.workspace.write_record(stage, unit, UnitRecord(unit, "done", "", 0.0, {}, {}))
    return root


def make_scene(points: int) -> tuple[Scene, torch.Tensor]:
    """A hall of N points with furniture, and the superpoint (N,) int32 of each."""
    chance = np.random.default_rng(0)
    size = np.array(HALL)
    places = chance.uniform(0, 1, (points, 3)) * size
    sides = chance.integers(0, 5, points)  # floor, four walls
    normals = np.zeros((points, 3))
    for side, (axis, end) in enumerate(((2, 0.0), (0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0))):
        own = sides == side
        places[own, axis] = end * size[axis]
        normals[own, axis] = 1 - 2 * end
    bumps = 0.5 * (np.sin(2 * places[:, 0]) * np.cos(2 * places[:, 1]) > 0.3)
    places[sides == 0, 2] = bumps[sides == 0]
    cells = np.floor(places / 0.7).astype(np.int64)
    pieces = np.unique(cells @ np.array([10_000, 100, 1]), return_inverse=True)[1]
    scene = Scene(
        SCENE,
        torch.from_numpy(places.astype(np.float32)),
        colors=torch.from_numpy((places / size * 200 + 40).astype(np.uint8)),
        normals=torch.from_numpy(normals.astype(np.float32)),
        labels=torch.from_numpy(pieces % len(WORDS)),
        label_set="scannet20",
    )
    return scene, torch.from_numpy(pieces.astype(np.int32))
