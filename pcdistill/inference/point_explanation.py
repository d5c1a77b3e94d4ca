"""Why a point has its label: what each teacher says of it, and with what weight."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pcdistill.artifacts import RunArtifacts, load_capability
from pcdistill.fusion import fusion_weights, predict_labels
from pcdistill.inference.fuse_points import FusionRule, fuse_points


class TeacherVote(NamedTuple):
    """What one teacher says of a point."""

    teacher: str
    frames: int
    """How many frames see the point, for this teacher."""
    word: str | None
    """Most similar word of the vocabulary (Eq. 6); None where the teacher has no feature here."""
    category: str | None
    """Evaluation class that is most similar to its feature; None where it has none."""
    similarity: float
    """Cosine with the word; 0 where it has no feature."""
    capability: float | None
    """Measured skill on the word, in [0, 1]; None where it was not measured."""
    weight: float | None
    """In the fusion (Eq. 8); None where the teachers' skill was not measured."""


class PointExplanation(NamedTuple):
    """What the teachers of a run say of a point, and what their fusion makes of it."""

    point: int
    votes: tuple[TeacherVote, ...]
    fused: str | None
    """Evaluation class of the fused feature; None where no teacher saw the point, or where the
    teachers' skill was not measured."""


def explain_point(run: RunArtifacts, scene: str, point: int) -> PointExplanation | None:
    """Tell what each teacher says of a point of a scene.

    Args:
        run: artifacts of a run.
        scene: a stored scene.
        point: row of its points.

    Returns:
        None where the scene's point features are not stored.

    Raises:
        ArtifactError: a file of the run is damaged.
    """
    files = [run.workspace.point_features(teacher, scene) for teacher in run.teachers]
    if not files or not run.point_features.stores(scene) or not all(f.is_file() for f in files):
        return None
    views = run.point_features.load_points(scene, torch.tensor([point]))
    features, seen = views.of_points(torch.tensor([0])), views.seen  # (T, 1, D), (T, 1)
    words = predict_labels(features, run.words.vocabulary_embeddings)  # (T, 1)
    skills = _skills(run)
    weights = None
    if skills is not None:
        weights = fusion_weights(words, skills, run.temperature, seen, mode=run.fusion_mode)
    votes = tuple(
        _vote(run, scene, point, number, features, bool(seen[number, 0]), words, skills, weights)
        for number in range(len(run.teachers))
    )
    fused = None
    if skills is not None and bool(seen.any()):
        vocabulary = run.words.vocabulary_embeddings
        rule = FusionRule("fused", vocabulary, skills, run.temperature, run.fusion_mode)
        label = run.words.classify(fuse_points(views, rule), seen.any(dim=0))
        fused = run.words.label_set.names[int(label)]
    return PointExplanation(point, votes, fused)


def _vote(
    run: RunArtifacts,
    scene: str,
    point: int,
    number: int,
    features: Tensor,
    seen: bool,
    words: Tensor,
    skills: Tensor | None,
    weights: Tensor | None,
) -> TeacherVote:
    """What teacher `number` says; `features` (T, 1, D), `words` (T, 1), `skills` (T, K)."""
    teacher = run.teachers[number]
    frames = int(run.point_features.view_counts(teacher, scene)[point])
    weight = None if weights is None else float(weights[number, 0])
    if not seen:
        return TeacherVote(teacher, frames, None, None, 0.0, None, weight)
    word, own = int(words[number, 0]), features[number]
    label = run.words.classify(own, torch.tensor([True]))
    cosine = functional.normalize(own, dim=1)[0] @ run.words.vocabulary_embeddings[word]
    skill = None if skills is None else float(skills[number, word])
    return TeacherVote(
        teacher,
        frames,
        run.words.vocabulary[word],
        run.words.label_set.names[int(label)],
        float(cosine),
        None if skill is None or skill != skill else skill,
        weight,
    )


def _skills(run: RunArtifacts) -> Tensor | None:
    """(T, K) float32 in [0, 1]; None where not every teacher was scored."""
    if not all(run.workspace.capability(teacher).is_file() for teacher in run.teachers):
        return None
    return load_capability(run.workspace, run.teachers, run.words.vocabulary)
