"""Asks a finished run where something is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.artifacts import load_scene, scene_names, stored_scenes, validation_scenes
from pcdistill.errors import ConfigError, file_trouble
from pcdistill.inference.methods import require_method
from pcdistill.inference.pieces import piece_features
from pcdistill.inference.places import Place, connected_places
from pcdistill.inference.questions import ignored_words, known_words
from pcdistill.inference.relevancy import (
    GENERAL_PHRASES,
    meant_word,
    query_alternatives,
    relevancy,
    similarity_floor,
)
from pcdistill.pipeline import RunContext, question_slug, slug
from pcdistill.scenes import Scene, source_points, write_source_ply
from pcdistill.visualization import colorize_scores, draw_points, save_png

_LOG = logging.getLogger(__name__)

Drawn = Literal["best", "all", "none"]
"""Of which scenes a cloud and a picture are written: the one with the best answer, all, none."""


@dataclass(frozen=True)
class QueryMatch:
    """One connected place that fits a question."""

    scene: str
    relevancy: float
    """Share of the question among what the place may be, in [0, 1]."""
    similarity: float
    """Cosine between the place's mean feature and the text."""
    rank: float
    """What answers are sorted by, see `Place.rank`."""
    position: tuple[float, float, float]
    """Centre of its bounding box, metres, in the frame of the scan's own files."""
    size: tuple[float, float, float]
    """Extent of its bounding box, metres, in the same frame."""
    points: int
    fraction: float
    """Of the points of its scene, in [0, 1]."""
    looks_like: str
    """The evaluation class that its mean feature is most similar to."""
    truth: str | None
    """Most frequent true class of its points; None where the scene has no labels."""


@dataclass(frozen=True, eq=False)
class SceneResponse:
    """How well the places and points of one scene fit a question."""

    scene: Scene
    relevancy: Tensor
    """(N,) float32 in [0, 1]; NaN where a point has no feature."""
    answers: tuple[QueryMatch, ...]
    """Connected places that are above the floor or look like the word that is meant, best first."""
    floor: float
    """Cosine that a place has to exceed to be an answer, unless it looks like the word meant."""
    best_similarity: float
    """Cosine of the best place, whether above the floor or not; -1 where there is none."""


@dataclass(frozen=True)
class Response:
    """What a run says to a question."""

    method: str
    """The row of the results whose features answered."""
    answers: tuple[QueryMatch, ...]
    """Best places of all scenes; none where nothing looks like that."""
    scenes: tuple[str, ...]
    """Where it was looked."""
    floor: float
    """Cosine that a place has to exceed, in the scene that came nearest to it."""
    best_similarity: float
    """Cosine of the place that came nearest."""
    files: tuple[Path, ...]
    """What was written."""
    ignored: tuple[str, ...] = ()
    """Words of the question that the text encoder does not know."""


def query_scene(
    run: RunContext, text: str, scene_name: str, top_k: int = 5, method: str | None = None
) -> SceneResponse:
    """Compare the pieces of a scene with a text and join those that fit into places.

    Args:
        run: context of the run.
        text: what to look for.
        scene_name: a stored scene of the run.
        top_k: places at most.
        method: whose features answer, a name of the results table; by default the best measured.

    Raises:
        ConfigError: the text has no known word, or there is no such row.
        ArtifactError: the run has no scene of that name, or is not finished.
    """
    scene = load_scene(run, scene_name)
    pieces = piece_features(run, require_method(run, method), scene)
    query = run.text_encoder.encode([known_words(run, text).known_text])[0]
    phrases = run.text_encoder.encode(GENERAL_PHRASES)
    alternatives = query_alternatives(query, run.vocabulary_embeddings, phrases)
    fits = relevancy(pieces.features, query, alternatives)
    floor = similarity_floor(pieces.features, run.vocabulary_embeddings)
    word = meant_word(query, run.vocabulary_embeddings)
    points = source_points(scene)
    answers, kept = [], []
    for place in connected_places(scene.points, pieces.ids, fits):
        mean = functional.normalize(pieces.features[pieces.ids[place.points]].sum(dim=0), dim=0)
        answers.append(_answer(run, scene, points, place, mean, float(mean @ query)))
        named = word is not None and int((run.vocabulary_embeddings @ mean).argmax()) == word
        if named or answers[-1].similarity > floor:
            kept.append(answers[-1])
    known = pieces.features.any(dim=1)
    return SceneResponse(
        scene,
        torch.where(known, fits, torch.nan)[pieces.ids],
        tuple(kept[:top_k]),
        floor,
        max((answer.similarity for answer in answers), default=-1.0),
    )


def _answer(
    run: RunContext, scene: Scene, points: Tensor, place: Place, mean: Tensor, similarity: float
) -> QueryMatch:
    """What a place says; `points`, (N, 3) float64, are those of the scan's own files."""
    low, high = points[place.points].aminmax(dim=0)
    (x, y, z), (length, width, height) = ((low + high) / 2).tolist(), (high - low).tolist()
    category = int(run.label_set.to_categories((run.label_embeddings @ mean).argmax()))
    truth = None
    if scene.labels is not None:
        label = int(scene.labels[place.points].mode().values)
        known = 0 <= label < len(run.label_set.names)
        truth = run.label_set.names[label] if known else "not labelled"
    return QueryMatch(
        scene=scene.name,
        relevancy=place.relevancy,
        similarity=similarity,
        rank=place.rank,
        position=(x, y, z),
        size=(length, width, height),
        points=len(place.points),
        fraction=len(place.points) / len(scene.points),
        looks_like=run.label_set.names[category],
        truth=truth,
    )


def query(
    run: RunContext,
    text: str,
    scenes: tuple[str, ...] = (),
    top_k: int = 5,
    method: str | None = None,
    draw: Drawn = "best",
) -> Response:
    """Answer a question with places, and draw how well everything fits.

    Args:
        run: context of the run.
        text: what to look for.
        scenes: where to look; by default everywhere that is measured.
        top_k: places at most.
        method: whose features answer; by default the best measured row.
        draw: of which scenes a coloured cloud (PLY) and a picture (PNG) are written to
            `queries/` of the workspace.

    Raises:
        ConfigError: the text, a scene or the row is unknown.
        ArtifactError: the run is not finished.
    """
    method = require_method(run, method)
    ignored = known_words(run, text).unknown
    if ignored:
        _LOG.warning("%s", ignored_words(text, ignored))
    known = scene_names(run)
    for name in scenes:
        if name not in known:
            raise ConfigError(f"unknown scene '{name}'; expected one of: {', '.join(known)}")
    searched = stored_scenes(run, scenes or validation_scenes(run) or known)
    found = [query_scene(run, text, name, top_k, method) for name in searched]
    answers = sorted((a for one in found for a in one.answers), key=lambda answer: -answer.rank)
    nearest = max(found, key=lambda one: one.best_similarity - one.floor)
    chosen = [answers[0].scene if answers else nearest.scene.name]
    drawn = {"best": chosen, "all": list(searched), "none": []}[draw]
    files: list[Path] = []
    for one in found:
        if one.scene.name in drawn:
            try:
                files += _draw(run, text, one)
            except OSError as error:  # the answer does not need it
                _LOG.warning("nothing is drawn: %s", file_trouble(error))
    return Response(
        method,
        tuple(answers[:top_k]),
        tuple(searched),
        nearest.floor,
        nearest.best_similarity,
        tuple(files),
        ignored,
    )


def _draw(run: RunContext, text: str, found: SceneResponse) -> tuple[Path, Path]:
    """Write a scene coloured by relevancy as PLY and PNG."""
    folder = run.workspace.root / "queries" / question_slug(text)
    folder.mkdir(parents=True, exist_ok=True)
    scene, colors = found.scene, colorize_scores(found.relevancy)
    ply, png = folder / f"{slug(scene.name)}.ply", folder / f"{slug(scene.name)}.png"
    write_source_ply(ply, scene, colors=colors, scalars={"relevancy": found.relevancy.nan_to_num()})
    save_png(png, draw_points(scene.points, colors, normals=scene.normals))
    return ply, png
