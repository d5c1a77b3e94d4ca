"""Vocabulary and evaluation classes of a run, their prompts, and their text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from pcdistill.fusion import predict_labels
from pcdistill.labels import NO_FEATURE_LABEL
from pcdistill.prompts import fill_prompt
from pcdistill.scenes import LabelSet
from pcdistill.teachers import TextEncoder, embed_names

PROMPT = "a {} in a scene"
"""Where neither the config nor a trained student says otherwise."""


class RunWords:
    """The words of a run in its text space; embeddings are made when they are first used.

    Args:
        text_encoder: the text space of the run.
        label_set: C evaluation classes.
        vocabulary: K words, class names used to compare teachers.
        prompt: what the text encoder reads for a name, with {} in its place, or a named set of
            such templates; None where neither the configuration nor a trained student says it.
        as_published: whether the evaluation classes are asked for by OpenScene's prompts.
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        label_set: LabelSet,
        vocabulary: tuple[str, ...],
        *,
        prompt: str | None = None,
        as_published: bool = False,
    ) -> None:
        self.text_encoder = text_encoder
        self.label_set = label_set
        self.vocabulary = vocabulary
        self.prompt = prompt or PROMPT
        """What the text encoder reads for a word of the vocabulary, with {} in its place."""
        self.label_template = prompt or label_set.template
        """The same for the evaluation classes, where these are not asked for as published."""
        self._as_published = as_published

    def prompts(self, names: Sequence[str]) -> list[str]:
        """What the text encoder reads for each name; of a set of templates, its name."""
        return [fill_prompt(self.prompt, name) for name in names]

    @property
    def training_prompts(self) -> list[str]:
        """P prompts of the evaluation classes for the temporal ensemble's pseudo labels."""
        return [fill_prompt(self.label_template, name) for name in self.label_set.prompt_names]

    @property
    def label_prompts(self) -> list[str]:
        """P prompts of the evaluation classes for what is measured."""
        if self._as_published:
            return list(self.label_set.openscene_prompts)
        return self.training_prompts

    @cached_property
    def bare_vocabulary(self) -> Tensor:
        """(K, D) float32, unit rows: the words without a prompt, as questions are asked."""
        return self.text_encoder.encode(list(self.vocabulary))

    @cached_property
    def vocabulary_embeddings(self) -> Tensor:
        """Embedded vocabulary (K, D) float32, unit rows (F_text of Eq. 6)."""
        return embed_names(self.text_encoder, self.prompt, self.vocabulary)

    @cached_property
    def label_embeddings(self) -> Tensor:
        """Embedded `label_prompts` (P, D) float32, unit rows; see `LabelSet.to_categories`."""
        if not self._as_published:
            return self.training_embeddings
        return self.text_encoder.encode(self.label_prompts)

    @cached_property
    def training_embeddings(self) -> Tensor:
        """Embedded `training_prompts` (P, D) float32, unit rows."""
        return embed_names(self.text_encoder, self.label_template, self.label_set.prompt_names)

    @cached_property
    def own_words(self) -> frozenset[str]:
        """Words of the vocabulary and the classes: the run's features know their directions."""
        names = (*self.vocabulary, *self.label_set.prompt_names)
        return frozenset(word for name in names for word in name.lower().split())

    def classify(self, features: Tensor, seen: Tensor, *, first: int | None = None) -> Tensor:
        """Find the best evaluation class of each feature.

        Args:
            features: (N, D) float.
            seen: (N,) bool, which of them there are.
            first: how many classes there are to choose from, the first ones; by default all. For
                label sets with one prompt a class.

        Returns:
            (N,) int64, `NO_FEATURE_LABEL` where not `seen`.
        """
        prompts = self.label_embeddings[:first]
        labels = self.label_set.to_categories(predict_labels(features, prompts))
        return torch.where(seen, labels, NO_FEATURE_LABEL)
