"""Text queries: places of the scenes of a finished run that fit a question."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.artifacts import RunArtifacts, stored_scenes
from pcdistill.errors import ConfigError, file_trouble
from pcdistill.geometry import OrientedBox, upright_box
from pcdistill.inference.pieces import Pieces, ScenePieces
from pcdistill.inference.places import Place, connected_places
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.inference.questions import (
    EmbeddedQuestion,
    Question,
    embed_question,
    ignored_words,
    judge_place,
)
from pcdistill.inference.relevancy import NeighborhoodMean, relevancy, similarity_floor
from pcdistill.inference.touching import TouchingPieces
from pcdistill.pipeline import Workspace, question_slug, slug
from pcdistill.scenes import (
    Scene,
    open_stored_scene,
    scene_to_source,
    source_points,
    write_source_ply,
)
from pcdistill.visualization import colorize_scores, draw_points, save_png

_LOG = logging.getLogger(__name__)

KEPT_POINTS = 4_000_000
"""Points of scenes whose neighbours are kept, about 100 MB; the last scene is kept in any case."""

Drawn = Literal["best", "all", "none"]
"""Of which scenes a cloud and a picture are written: the one with the best answer, all, none."""


@dataclass(frozen=True)
class QueryMatch:
    """One connected place that fits a question."""

    scene: str
    relevancy: float
    """Share of the question among what the place may be, in [0, 1]."""
    similarity: float
    """Cosine between the place's mean feature and the text of the question that it fits best."""
    rank: float
    """What answers are sorted by, see `Place.rank`."""
    position: tuple[float, float, float]
    """Centre of its bounding box, metres, in the frame of the scan's own files."""
    size: tuple[float, float, float]
    """Extent of its bounding box, metres, in the same frame."""
    box: OrientedBox
    """The least box around it that is upright in the scan, in the same frame."""
    points: int
    fraction: float
    """Of the points of its scene, in [0, 1]."""
    looks_like: str
    """The evaluation class that its mean feature is most similar to."""
    truth: str | None
    """Most frequent true class of its points; None where the scene has no labels."""
    rows: Tensor = field(repr=False, compare=False)
    """(points,) int64, its points among those of the scene."""


@dataclass(frozen=True, eq=False)
class SceneResponse:
    """Relevancy of the places and points of one scene for a question."""

    scene: Scene
    relevancy: Tensor
    """(N,) float32 in [0, 1]; NaN where a point has no feature."""
    answers: tuple[QueryMatch, ...]
    """Connected places that are above the floor or look like the word that is meant, best first."""
    floor: float
    """Cosine that a place has to exceed to be an answer, unless it looks like the word meant."""
    best_similarity: float
    """Cosine of the best place, whether above the floor or not; -1 where there is none."""
    excluded: int
    """Places that would answer but fit better what is not meant."""


@dataclass(frozen=True)
class Response:
    """Answer of a run to a question."""

    question: Question
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
    excluded: int
    """Places that would answer but fit better what is not meant."""
    files: tuple[Path, ...]
    """What was written."""
    ignored: tuple[str, ...] = ()
    """Words of the question that the text encoder does not know."""


class _Judged(NamedTuple):
    """A place that answers a question."""

    place: Place
    mean: Tensor
    """(D,) float32, unit length, mean feature of its points."""
    similarity: float


class _Kept(NamedTuple):
    """Neighbours that were looked up in a scene."""

    ids: Tensor
    """(N,) int64, piece of each point."""
    touching: TouchingPieces
    means: dict[str, NeighborhoodMean]
    """By method, of the features of the pieces."""


class _Search(NamedTuple):
    """What was found in one scene; boxes are not made yet."""

    scene: Scene
    relevancy: Tensor
    """(N,) float32, as of `SceneResponse`."""
    judged: list[_Judged]
    """Best first."""
    floor: float
    best_similarity: float
    excluded: int


class Querier:
    """Answers questions to a finished run with places.

    Scenes that were opened are kept, and what was looked up of their points' neighbours, of the
    scenes that were asked last and have `KEPT_POINTS` together.
    """

    def __init__(self, artifacts: RunArtifacts, predictor: ScenePredictor) -> None:
        self._artifacts = artifacts
        self._methods = predictor.methods
        self._pieces = ScenePieces(artifacts, predictor)
        self._scenes: dict[str, Scene] = {}
        self._touching: dict[str, _Kept] = {}
        self._floors: dict[tuple[str, str], float] = {}

    def scene_relevancy(
        self, question: str | Question, scene_name: str, method: str | None = None
    ) -> tuple[Tensor, str]:
        """How well every point of a scene fits a question, without looking for places.

        Args:
            question: what to look for.
            scene_name: a stored scene of the run.
            method: whose features answer, as in `query_scene`.

        Returns:
            (N,) float32 in [0, 1], NaN where a point has no feature; and the method.

        Raises:
            ConfigError: a text has no known word, or there is no such method.
            ArtifactError: the run has no scene of that name, or is not finished.
        """
        method = self._methods.require(method, self._artifacts.workspace)
        scene = self._scene(scene_name)
        pieces = self._pieces.features(method, scene)
        asked = embed_question(self._artifacts.words, _question(question))
        _, heard = self._relevancy(asked, method, scene, pieces)
        return _of_points(pieces, heard), method

    def query_scene(
        self,
        question: str | Question,
        scene_name: str,
        top_k: int = 5,
        method: str | None = None,
    ) -> SceneResponse:
        """Compare the pieces of a scene with a question and join those that fit into places.

        Args:
            question: what to look for.
            scene_name: a stored scene of the run.
            top_k: places at most.
            method: whose features answer, a name of the results table; by default the best
                measured one.

        Raises:
            ConfigError: a text has no known word, or there is no such method.
            ArtifactError: the run has no scene of that name, or is not finished.
        """
        question = _question(question)
        asked = embed_question(self._artifacts.words, question)
        method = self._methods.require(method, self._artifacts.workspace)
        found = self._search(asked, question.min_similarity, scene_name, method)
        return SceneResponse(
            found.scene,
            found.relevancy,
            tuple(self._answer(found.scene, one) for one in found.judged[:top_k]),
            found.floor,
            found.best_similarity,
            found.excluded,
        )

    def _search(
        self, asked: EmbeddedQuestion, min_similarity: float | None, scene_name: str, method: str
    ) -> _Search:
        scene = self._scene(scene_name)
        pieces = self._pieces.features(method, scene)
        floor = (
            self._floor(method, scene_name, pieces) if min_similarity is None else min_similarity
        )
        alone, heard = self._relevancy(asked, method, scene, pieces)
        found = self._judge(asked, scene, pieces, heard, floor, by_name=min_similarity is None)
        if found.judged:
            return found
        # a thing of a piece or two may be drowned by what is around it
        return self._judge(asked, scene, pieces, alone, floor, by_name=min_similarity is None)

    def _judge(
        self,
        asked: EmbeddedQuestion,
        scene: Scene,
        pieces: Pieces,
        fits: Tensor,
        floor: float,
        *,
        by_name: bool,
    ) -> _Search:
        """Join the pieces that fit (S,) into places, and keep those that answer."""
        vocabulary = self._artifacts.words.vocabulary_embeddings  # (K, D)
        touching = self._kept(scene, pieces).touching
        judged: list[_Judged] = []
        excluded, best = 0, -1.0
        for place in connected_places(scene.points, pieces.ids, fits, touching=touching):
            mine = place.superpoints
            members = torch.from_numpy(touching.sizes)[mine]
            mean = functional.normalize(members.float() @ pieces.features[mine], dim=0)
            verdict, similarity = judge_place(asked, mean, vocabulary, floor, by_name=by_name)
            best = max(best, similarity)
            excluded += verdict == "excluded"
            if verdict == "answer":
                judged.append(_Judged(place, mean, similarity))
        return _Search(scene, _of_points(pieces, fits), judged, floor, best, excluded)

    def _floor(self, method: str, scene: str, pieces: Pieces) -> float:
        if (method, scene) not in self._floors:
            vocabulary = self._artifacts.words.vocabulary_embeddings
            self._floors[method, scene] = similarity_floor(pieces.features, vocabulary)
        return self._floors[method, scene]

    def _relevancy(
        self, asked: EmbeddedQuestion, method: str, scene: Scene, pieces: Pieces
    ) -> tuple[Tensor, Tensor]:
        """(S,) float32 twice: how well each piece fits, and those around it that look like it."""
        kept = self._kept(scene, pieces)
        if method not in kept.means:
            first, second = map(torch.from_numpy, kept.touching.near_pairs())
            sizes = torch.from_numpy(kept.touching.sizes)
            kept.means[method] = NeighborhoodMean(pieces.features, sizes, first, second)
        alone = relevancy(pieces.features, asked.queries, asked.alternatives)
        return alone, kept.means[method](alone)

    def _kept(self, scene: Scene, pieces: Pieces) -> _Kept:
        kept = self._touching.pop(scene.name, None)
        if kept is None or not torch.equal(kept.ids, pieces.ids):
            points = scene.points.double().cpu().numpy()
            found = TouchingPieces(points, pieces.ids.numpy(), len(pieces.features))
            kept = _Kept(pieces.ids, found, {})
        self._touching[scene.name] = kept  # the last one
        while sum(len(one.ids) for one in self._touching.values()) > KEPT_POINTS:
            if len(self._touching) == 1:
                break
            del self._touching[next(iter(self._touching))]
        return kept

    def query(
        self,
        question: str | Question,
        scenes: Sequence[str] = (),
        top_k: int = 5,
        method: str | None = None,
        draw: Drawn = "best",
    ) -> Response:
        """Answer a question with places, and draw how well everything fits.

        Args:
            question: what to look for.
            scenes: where to look; by default everywhere that is measured.
            top_k: places at most.
            method: whose features answer; by default the best measured one.
            draw: of which scenes a coloured cloud (PLY) and a picture (PNG) are written to
                `queries/` of the workspace.

        Raises:
            ConfigError: a text, a scene or the method is unknown.
            ArtifactError: the run is not finished.
        """
        question = _question(question)
        workspace, split = self._artifacts.workspace, self._artifacts.scenes
        method = self._methods.require(method, workspace)
        asked = embed_question(self._artifacts.words, question)
        if asked.ignored:
            _LOG.warning("%s", ignored_words(str(question), asked.ignored))
        for name in scenes:
            if name not in split.all:
                raise ConfigError(
                    f"unknown scene '{name}'; expected one of: {', '.join(split.all)}"
                )
        searched = stored_scenes(workspace, scenes or split.validation or split.all)
        least = question.min_similarity
        found = [self._search(asked, least, name, method) for name in searched]
        ranked = sorted(
            ((one.scene, place) for one in found for place in one.judged),
            key=lambda found: -found[1].place.rank,
        )
        answers = [self._answer(scene, place) for scene, place in ranked[:top_k]]
        nearest = max(found, key=lambda one: one.best_similarity - one.floor)
        chosen = [answers[0].scene if answers else nearest.scene.name]
        drawn = {"best": chosen, "all": list(searched), "none": []}[draw]
        files: list[Path] = []
        for one in found:
            if one.scene.name in drawn:
                try:
                    files += _draw(workspace, question, one)
                except OSError as error:  # the answer does not need it
                    _LOG.warning("nothing is drawn: %s", file_trouble(error))
        return Response(
            question,
            method,
            tuple(answers),
            searched,
            nearest.floor,
            nearest.best_similarity,
            sum(one.excluded for one in found),
            tuple(files),
            asked.ignored,
        )

    def _answer(self, scene: Scene, judged: _Judged) -> QueryMatch:
        """What a place says, in the frame of the scan's own files."""
        words, (place, mean, similarity) = self._artifacts.words, judged
        low, high = source_points(scene, place.points).aminmax(dim=0)
        (x, y, z), (length, width, height) = ((low + high) / 2).tolist(), (high - low).tolist()
        category = int(words.label_set.to_categories((words.label_embeddings @ mean).argmax()))
        truth = None
        if scene.labels is not None:
            label = int(scene.labels[place.points].mode().values)
            known = 0 <= label < len(words.label_set.names)
            truth = words.label_set.names[label] if known else "not labelled"
        return QueryMatch(
            scene=scene.name,
            relevancy=place.relevancy,
            similarity=similarity,
            rank=place.rank,
            position=(x, y, z),
            size=(length, width, height),
            box=upright_box(scene.points[place.points]).moved(scene_to_source(scene.provenance)),
            points=len(place.points),
            fraction=len(place.points) / len(scene.points),
            looks_like=words.label_set.names[category],
            truth=truth,
            rows=place.points,
        )

    def _scene(self, name: str) -> Scene:
        if name not in self._scenes:
            self._scenes[name] = open_stored_scene(self._artifacts.workspace.scene(name))
        return self._scenes[name]


def _of_points(pieces: Pieces, fits: Tensor) -> Tensor:
    """(N,) float32 of the relevancy (S,) of pieces; NaN where a piece has no feature."""
    return torch.where(pieces.features.any(dim=1), fits, torch.nan)[pieces.ids]


def _question(question: str | Question) -> Question:
    return question if isinstance(question, Question) else Question(question)


def _draw(workspace: Workspace, question: Question, found: _Search) -> tuple[Path, Path]:
    """Write a scene coloured by relevancy as PLY and PNG."""
    folder = workspace.root / "queries" / question_slug(str(question))
    folder.mkdir(parents=True, exist_ok=True)
    scene, colors = found.scene, colorize_scores(found.relevancy)
    ply, png = folder / f"{slug(scene.name)}.ply", folder / f"{slug(scene.name)}.png"
    write_source_ply(ply, scene, colors=colors, scalars={"relevancy": found.relevancy.nan_to_num()})
    save_png(png, draw_points(scene.points, colors, normals=scene.normals))
    return ply, png
