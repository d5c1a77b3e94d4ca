"""Pieces of scenes that can answer a question, and what a row of the results says of each."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.artifacts import load_superpoint_ids
from pcdistill.geometry import point_superpoints, superpoint_mean
from pcdistill.inference.methods import looks, method_dependencies, method_features
from pcdistill.inference.places import MIN_POINTS
from pcdistill.pipeline import RunContext, read_provenance, read_tensors
from pcdistill.scenes import Scene


class Pieces(NamedTuple):
    """A scene in pieces."""

    ids: Tensor
    """(N,) int64, piece of each point, in [0, S)."""
    features: Tensor
    """(S, D) float32, unit rows: mean feature of each piece, zero where it has none."""


def scene_pieces(run: RunContext, scene: Scene) -> Tensor:
    """(N,) int64: its superpoints; where these are single points, a cut by nearest neighbours.

    (`partition.method: none` makes every point its own superpoint.)
    """
    ids = load_superpoint_ids(run, scene.name)
    sizes = torch.bincount(ids)
    if 2 * int(sizes[sizes >= MIN_POINTS].sum()) >= len(ids) or len(ids) < MIN_POINTS:
        return ids
    key = f"pieces/{scene.name}"
    if key not in run.memory:
        config = run.config.partition
        run.memory[key] = point_superpoints(
            scene.points,
            scene.normals,
            neighbors=config.neighbors,
            threshold=config.threshold,
            min_size=max(config.min_size, MIN_POINTS),
        ).long()
    found: Tensor = run.memory[key]
    return found


def average_pieces(features: Tensor, seen: Tensor, ids: Tensor) -> Pieces:
    """Average features (N, D) of the points that are seen (N,) over pieces (N,)."""
    known = functional.normalize(features, dim=1) * seen[:, None]
    means = functional.normalize(superpoint_mean(known, ids), dim=1)
    return Pieces(ids, means)


def piece_features(run: RunContext, row: str, scene: Scene) -> Pieces:
    """What a row says of the pieces of a scene: as stage evaluate stored it, else computed.

    Raises:
        ArtifactError: the run is not finished.
    """
    key = f"pieces/{row}/{scene.name}"
    if key not in run.memory:
        run.memory[key] = _stored(run, row, scene.name) or _computed(run, row, scene)
    found: Pieces = run.memory[key]
    return found


def _computed(run: RunContext, row: str, scene: Scene) -> Pieces:
    features, seen = method_features(run, row, scene.name)
    return average_pieces(features, seen, scene_pieces(run, scene))


def _stored(run: RunContext, row: str, scene: str) -> Pieces | None:
    path = run.workspace.prediction(row, scene)
    if not path.exists() or read_provenance(path).get("made_from") != made_from(run, row, scene):
        return None
    found = read_tensors(path, ("pieces", "piece_features"))
    return Pieces(found["pieces"].long(), found["piece_features"].float())


def made_from(run: RunContext, row: str, scene: str) -> str:
    """Digest of the units that a row's features of a scene are made from, as they are now."""
    digest = hashlib.sha256(str(looks(run, scene)).encode())
    for needed in method_dependencies(run, row, (scene,)):
        record = run.workspace.record(needed.stage, needed.unit)
        mark = record.fingerprint if record is not None else "missing"
        digest.update(f"{needed.stage} {needed.unit} {mark}".encode())
    return digest.hexdigest()[:32]
