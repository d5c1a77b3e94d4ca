"""True capability of the teachers: IoU of each on each word, by the labels of measured scenes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.artifacts import (
    PointFeatureStore,
    labels_in_memory,
    load_capability,
    load_taught_words,
    table_of_words,
)
from pcdistill.evaluation import ConfusionMatrix, rank_agreement
from pcdistill.fusion import predict_labels
from pcdistill.labels import IGNORE_LABEL
from pcdistill.pipeline import RunWords, Workspace, read_json, write_json
from pcdistill.scenes import LabelSet, open_stored_scene


def true_capability(
    workspace: Workspace,
    words: RunWords,
    point_features: PointFeatureStore,
    scenes: tuple[str, ...],
) -> Tensor:
    """Measure the IoU of every teacher on every word of the vocabulary, where labels tell it.

    A teacher says of a point that it has seen the word that its feature is most similar to. The
    points of all scenes that it has seen and that have a label are counted together. What is
    counted are classes of the label set: a word stands for the class of its name, or for the one
    that a prompt of its name asks for, and has its IoU; a word that stands for no class is a wrong
    guess of whatever it is said of.

    Args:
        workspace: of the run.
        words: of the run, with K words of vocabulary.
        point_features: of T teachers.
        scenes: lifted by every teacher and partitioned; those without labels tell nothing.

    Returns:
        (T, K) float32 in [0, 1]; NaN for a word that stands for no class, or for one of which the
        teacher has seen no point.

    Raises:
        SceneError: a scene is labelled with another label set.
    """
    classes = len(words.label_set.names)
    class_of_word = classes_of_words(words.label_set, words.vocabulary)
    no_class = torch.where(class_of_word < 0, classes, class_of_word)
    counts = [ConfusionMatrix(classes + 1) for _ in point_features.teachers]
    for name in scenes:
        scene = open_stored_scene(workspace.scene(name))
        if scene.labels is None:
            continue
        truth = labels_in_memory(words.label_set, scene, scene.labels)
        views = point_features.load_stack(name)
        for number, counted in enumerate(counts):
            points = (views.seen[number] & (truth != IGNORE_LABEL)).nonzero()[:, 0]
            features = views.of_teacher(number)[points]
            guesses = predict_labels(features, words.vocabulary_embeddings)
            counted.update(no_class[guesses], truth[points])
    per_class = torch.stack([counted.iou()[:classes] for counted in counts])  # (T, classes)
    known = per_class[:, class_of_word.clamp(min=0)]
    return torch.where(class_of_word >= 0, known, torch.nan).float()


def measure_capability(
    workspace: Workspace,
    words: RunWords,
    point_features: PointFeatureStore,
    scenes: tuple[str, ...],
) -> str:
    """Write the teachers' measured and true capability side by side, and how far they agree.

    Args:
        workspace: as in `true_capability`.
        words: as in `true_capability`.
        point_features: as in `true_capability`.
        scenes: as in `true_capability`.

    Returns:
        what came out, in one sentence.
    """
    teachers, vocabulary = point_features.teachers, words.vocabulary
    measured = load_capability(workspace, teachers, vocabulary)
    true = true_capability(workspace, words, point_features, scenes)
    told = [load_taught_words(workspace, teacher) for teacher in teachers]
    taught = words_to_compare(vocabulary, told, measured, true)
    agreement = rank_agreement(measured, true, taught)
    guessed = [name for name, known in zip(teachers, told, strict=True) if known is None]
    sentence = agreement.sentence(guessed)
    write_json(
        workspace.true_capability,
        {
            "scenes": list(scenes),
            "teachers": {
                teacher: {
                    "measured": _named(vocabulary, measured[number]),
                    "true": _named(vocabulary, true[number]),
                    "taught": None if known is None else list(known),
                }
                for number, (teacher, known) in enumerate(zip(teachers, told, strict=True))
            },
            "spearman": agreement.spearman,
            "spearman_interval": agreement.interval,
            "classes": agreement.classes,
            "sentence": sentence,
        },
    )
    return sentence


def read_true_capability(
    workspace: Workspace, teachers: Sequence[str], vocabulary: Sequence[str]
) -> Tensor:
    """Read what `measure_capability` wrote.

    Args:
        workspace: of the run.
        teachers: T names.
        vocabulary: K words.

    Returns:
        (T, K) float32, NaN where nothing is known.
    """
    found = read_json(workspace.true_capability)["teachers"]
    return table_of_words([found[teacher]["true"] for teacher in teachers], vocabulary)


def words_to_compare(
    vocabulary: tuple[str, ...],
    told: Sequence[Sequence[str] | None],
    measured: Tensor,
    true: Tensor,
) -> Tensor:
    """Choose the words on which measured and true capability are compared.

    Args:
        vocabulary: K words.
        told: for each of T teachers the words it was taught, or None where it cannot tell.
        measured: (T, K) float in [0, 1], NaN for a word without a score.
        true: (T, K) float in [0, 1], NaN where nothing is known.

    Returns:
        (T, K) bool: the words that a teacher was taught, else those that it finds at all; never one
        without a score.
    """
    found = (measured > 0) | (true.nan_to_num(0) > 0)
    rows = [
        found[number] if words is None else torch.tensor([word in words for word in vocabulary])
        for number, words in enumerate(told)
    ]
    return torch.stack(rows) & ~measured.isnan()


def _named(vocabulary: Sequence[str], values: Tensor) -> dict[str, float | None]:
    """Word -> its value, None where that is not known."""
    pairs = zip(vocabulary, values.tolist(), strict=True)
    return {word: None if math.isnan(value) else value for word, value in pairs}


def classes_of_words(label_set: LabelSet, vocabulary: tuple[str, ...]) -> Tensor:
    """(K,) int64: class that each word stands for, by its name or that of a prompt; -1 for none."""
    mapping = label_set.mapping
    numbers = range(len(label_set.prompt_names)) if mapping is None else mapping.tolist()
    known = dict(zip(map(_plain, label_set.prompt_names), numbers, strict=True))
    known |= {_plain(name): number for number, name in enumerate(label_set.names)}
    return torch.tensor([known.get(_plain(word), -1) for word in vocabulary])


def _plain(name: str) -> str:
    return " ".join(name.lower().split())
