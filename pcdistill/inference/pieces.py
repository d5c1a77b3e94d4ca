"""Pieces of scenes that can answer a question, and their mean features by each method."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.artifacts import RunArtifacts, load_superpoint_ids
from pcdistill.geometry import point_superpoints, superpoint_mean
from pcdistill.inference.places import MIN_POINTS
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.pipeline import read_provenance, read_tensors
from pcdistill.scenes import Scene

MAX_CUTS = 4
"""Scenes whose cut by nearest neighbours is kept: those that were asked for last."""


class Pieces(NamedTuple):
    """A scene in pieces."""

    ids: Tensor
    """(N,) int64, piece of each point, in [0, S)."""
    features: Tensor
    """(S, D) float32, unit rows: mean feature of each piece, zero where it has none."""


def average_pieces(features: Tensor, seen: Tensor, ids: Tensor) -> Pieces:
    """Average features (N, D) of the points that are seen (N,) over pieces (N,)."""
    known = functional.normalize(features, dim=1) * seen[:, None]
    means = functional.normalize(superpoint_mean(known, ids), dim=1)
    return Pieces(ids, means)


class ScenePieces:
    """Pieces of the scenes of a run and their features by each method; what was made is kept."""

    def __init__(self, artifacts: RunArtifacts, predictor: ScenePredictor) -> None:
        self._artifacts = artifacts
        self._predictor = predictor
        self._cuts: dict[str, Tensor] = {}
        self._features: dict[tuple[str, str], Pieces] = {}

    def cut(self, scene: Scene) -> Tensor:
        """(N,) int64: superpoints; where these are single points, a cut by nearest neighbours.

        (`partition.method: none` makes every point its own superpoint.)
        """
        run = self._artifacts
        ids = load_superpoint_ids(run.workspace, scene.name)
        sizes = torch.bincount(ids)
        if 2 * int(sizes[sizes >= MIN_POINTS].sum()) >= len(ids) or len(ids) < MIN_POINTS:
            return ids
        if scene.name not in self._cuts:
            self._cuts[scene.name] = point_superpoints(
                scene.points,
                scene.normals,
                neighbors=run.piece_neighbors,
                threshold=run.piece_threshold,
                min_size=max(run.piece_size, MIN_POINTS),
            ).long()
            while len(self._cuts) > MAX_CUTS:
                del self._cuts[next(iter(self._cuts))]
        return self._cuts[scene.name]

    def features(self, method: str, scene: Scene) -> Pieces:
        """Features of the pieces of a scene: as stage evaluate stored them, else computed.

        Raises:
            ArtifactError: the run is not finished.
        """
        key = (method, scene.name)
        if key not in self._features:
            self._features[key] = self._stored(*key) or self._computed(method, scene)
        return self._features[key]

    def _computed(self, method: str, scene: Scene) -> Pieces:
        features, seen = self._predictor.features(method, scene.name)
        return average_pieces(features, seen, self.cut(scene))

    def _stored(self, method: str, scene: str) -> Pieces | None:
        path = self._artifacts.workspace.prediction(method, scene)
        if not path.exists():
            return None
        if read_provenance(path).get("made_from") != self.made_from(method, scene):
            return None
        found = read_tensors(path, ("pieces", "piece_features"))
        return Pieces(found["pieces"].long(), found["piece_features"].float())

    def made_from(self, method: str, scene: str) -> str:
        """Digest of the units that a method's features of a scene are made from now."""
        run, predictor = self._artifacts, self._predictor
        digest = hashlib.sha256(str(predictor.looks(scene)).encode())
        validation = run.scenes.validation
        for needed in predictor.methods.dependencies(method, (scene,), validation):
            record = run.workspace.record(needed.stage, needed.unit)
            mark = record.fingerprint if record is not None else "missing"
            digest.update(f"{needed.stage} {needed.unit} {mark}".encode())
        return digest.hexdigest()[:32]
