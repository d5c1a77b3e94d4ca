"""Asks a finished run where something is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.choices import suggest
from pcdistill.errors import ConfigError
from pcdistill.evaluation import draw_points, heat_colors, save_png
from pcdistill.geometry import point_superpoints, superpoint_mean
from pcdistill.scenes import Scene, open_scene, write_ply
from pcdistill.stages.ingest import scene_names, stored_scenes, validation_scenes
from pcdistill.stages.partition import superpoint_ids
from pcdistill.stages.rows import best_student, row_features, row_names
from pcdistill.stages.run import Run
from pcdistill.stages.workspace import slug

SMALLEST_ANSWER = 20
"""Points below which a superpoint is too small to be an answer."""


@dataclass(frozen=True)
class Answer:
    """One superpoint that fits a question."""

    scene: str
    superpoint: int
    score: float
    """Cosine between the mean feature of the superpoint and the text."""
    position: tuple[float, float, float]
    """Centre of its bounding box, metres."""
    size: tuple[float, float, float]
    """Extent of its bounding box, metres."""
    points: int
    looks_like: str
    """The evaluation class that its mean feature is most similar to."""
    truth: str | None
    """Most frequent true class of its points; None where the scene has no labels."""


@dataclass(frozen=True, eq=False)
class HeatMap:
    """How well every point of a scene fits a question."""

    scene: Scene
    similarity: Tensor
    """(N,) float32 cosine."""
    answers: tuple[Answer, ...]
    """Best superpoints first."""


def unit_features(run: Run, row: str, scene: str) -> Tensor:
    """A row's features of a scene, (N, D) float32, unit length, zero where it has none."""
    key = f"unit features/{row}/{scene}"
    if key not in run.memory:
        features, _ = row_features(run, row, scene)
        run.memory[key] = functional.normalize(features, dim=1)
    found: Tensor = run.memory[key]
    return found


def answer_pieces(run: Run, scene: Scene) -> Tensor:
    """(N,) int64: the pieces of a scene that can be an answer.

    They are its superpoints; where these are single points (`partition.method: none`), the scene is
    cut by nearest neighbours.
    """
    ids = superpoint_ids(run, scene.name)
    sizes = torch.bincount(ids)
    if 2 * int(sizes[sizes >= SMALLEST_ANSWER].sum()) >= len(ids) or len(ids) < SMALLEST_ANSWER:
        return ids
    key = f"answer pieces/{scene.name}"
    if key not in run.memory:
        config = run.config.partition
        run.memory[key] = point_superpoints(
            scene.points,
            scene.normals,
            neighbours=config.neighbours,
            threshold=config.threshold,
            min_size=max(config.min_size, SMALLEST_ANSWER),
        ).long()
    found: Tensor = run.memory[key]
    return found


def ask(run: Run, text: str, scene_name: str, best: int = 5, row: str | None = None) -> HeatMap:
    """Compare every point of a scene with a text.

    Args:
        row: whose features answer, a name of the results table; by default the last student.

    Raises:
        ConfigError: the text has no known word.
        ArtifactError: the run has no finished student or scene of that name.
    """
    embedding = run.text_encoder.encode([text])[0]
    scene = open_scene(run.workspace.scene(scene_name))
    features = unit_features(run, row or f"student:{best_student(run)}", scene_name)
    ids = answer_pieces(run, scene)
    means = functional.normalize(superpoint_mean(features, ids), dim=1)
    score = means @ embedding
    score[torch.bincount(ids) < SMALLEST_ANSWER] = -torch.inf
    order = score.argsort(descending=True)[:best]
    answers = tuple(
        _answer(run, scene, ids, means, int(number), float(score[number]))
        for number in order
        if torch.isfinite(score[number])
    )
    return HeatMap(scene, features @ embedding, answers)


def _answer(
    run: Run, scene: Scene, ids: Tensor, means: Tensor, superpoint: int, score: float
) -> Answer:
    inside = ids == superpoint
    points = scene.points[inside]
    low, high = points.amin(dim=0), points.amax(dim=0)
    prompt = (run.label_embeddings @ means[superpoint]).argmax()
    category = int(run.label_set.to_categories(prompt))
    truth = None
    if scene.labels is not None:
        label = int(scene.labels[inside].mode().values)
        known = label < len(run.label_set.names)
        truth = run.label_set.names[label] if known else "not labelled"
    return Answer(
        scene=scene.name,
        superpoint=superpoint,
        score=score,
        position=tuple(((low + high) / 2).tolist()),
        size=tuple((high - low).tolist()),
        points=len(points),
        looks_like=run.label_set.names[category],
        truth=truth,
    )


def query(
    run: Run,
    text: str,
    scenes: tuple[str, ...] = (),
    best: int = 5,
    row: str | None = None,
) -> tuple[list[Answer], list[Path]]:
    """Answer a question: heat maps as PLY and PNG for every scene, best superpoints of all.

    Args:
        scenes: where to look; by default everywhere that is measured.
        row: whose features answer; by default the last student.

    Returns:
        answers: the best superpoints over all scenes.
        files: what was written, below `queries/` of the workspace.

    Raises:
        ConfigError: the text, a scene or the row is unknown.
        ArtifactError: the run is not finished.
    """
    if row is not None and row not in row_names(run):
        raise ConfigError(f"unknown row '{row}'; {suggest(row, row_names(run))}")
    known = scene_names(run)
    for name in scenes:
        if name not in known:
            raise ConfigError(f"unknown scene '{name}'; expected one of: {', '.join(known)}")
    folder = run.workspace.root / "queries" / slug(text)
    answers: list[Answer] = []
    files: list[Path] = []
    for name in stored_scenes(run, scenes or validation_scenes(run) or known):
        found = ask(run, text, name, best, row)
        answers += found.answers
        colors = heat_colors(found.similarity)
        ply, png = folder / f"{slug(name)}.ply", folder / f"{slug(name)}.png"
        folder.mkdir(parents=True, exist_ok=True)
        write_ply(
            ply, points=found.scene.points, colors=colors, scalars={"similarity": found.similarity}
        )
        save_png(png, draw_points(found.scene.points, colors, normals=found.scene.normals))
        files += [ply, png]
    answers.sort(key=lambda answer: -answer.score)
    return answers[:best], files
