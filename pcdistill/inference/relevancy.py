"""Relevancy of features for a text, measured against other things they might be.

A cosine alone ranks by how sharp a feature is: where doors have the sharpest features, doors are
most similar to nearly every text. What counts is whether a feature fits the text better than it
fits anything else, as in *LERF: Language Embedded Radiance Fields* (section 3.4), which compares
with a few general phrases. Here the words of the run's vocabulary are alternatives as well, except
the one nearest to the text, which most likely means the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pcdistill.geometry import require_shape

TEMPERATURE = 0.1
"""Divides cosines before the softmax, unitless."""

FLOOR_QUANTILE = 0.95
"""Of the cosines between features and words that they do not mean; chosen on homes that no number
of docs/questions.md is of."""

ROUNDS = 4
"""In which pieces of a scene hear what their neighbours say; chosen on training homes and on one
room of photographs, where more lose a chair that touches a table."""

MEANT_QUANTILE = 0.9
"""Of the cosines between different words, that a text has to exceed to be about a word."""

_PAIRS = 1 << 14  # of pieces whose features are held at a time


def query_alternatives(
    queries: Tensor, vocabulary: Tensor, phrases: Tensor, negatives: Tensor | None = None
) -> Tensor:
    """Collect what a feature may be instead of what is asked for.

    Args:
        queries: (Q, D) float, unit rows: texts that ask for the same thing.
        vocabulary: (K, D) float, unit rows, K >= 1.
        phrases: (G, D) float, unit rows.
        negatives: (M, D) float, unit rows: texts of what is not meant.

    Returns:
        (A, D): the vocabulary without the word nearest to each query, the phrases, the negatives.
    """
    require_shape("queries", queries, None, None)
    require_shape("vocabulary", vocabulary, None, queries.shape[1])
    require_shape("phrases", phrases, None, queries.shape[1])
    others = torch.ones(len(vocabulary), dtype=torch.bool, device=vocabulary.device)
    others[(queries @ vocabulary.T).argmax(dim=1)] = False
    parts = [vocabulary[others], phrases]
    if negatives is not None:
        require_shape("negatives", negatives, None, queries.shape[1])
        parts.append(negatives)
    return torch.cat(parts)


def relevancy(
    features: Tensor, queries: Tensor, alternatives: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Compute the share of a question in a softmax over itself and what else a feature may be.

    Of several texts that ask for the same thing the one counts that the feature fits best.

    Args:
        features: (P, D) float, unit rows; a zero row has no feature.
        queries: (Q, D) float, unit rows, Q >= 1.
        alternatives: (A, D) float, unit rows.
        temperature: divides cosines, unitless, > 0.

    Returns:
        (P,) float in [0, 1]; 0 where there is no feature.

    Raises:
        ValueError: shapes do not fit, no query, or the temperature is not positive.

    Source: LERF, Eq. in 3.4, with a softmax over all alternatives at once instead of the least of
    the pairwise ones.
    """
    require_shape("queries", queries, None, None)
    require_shape("features", features, None, queries.shape[1])
    require_shape("alternatives", alternatives, None, queries.shape[1])
    if len(queries) == 0:
        raise ValueError("relevancy needs at least one query")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    best = (features @ queries.T).amax(dim=1, keepdim=True)  # (P, 1)
    cosines = torch.cat([best, features @ alternatives.T], dim=1)
    fraction = torch.softmax(cosines / temperature, dim=1)[:, 0]
    return torch.where(features.any(dim=1), fraction, 0.0)


class NeighborhoodMean:
    """Lets the pieces of a scene hear what pieces around them say that look alike.

    Teachers see one side of a thing well and another badly: a question then fits the pieces of a
    bed unequally, and single ones elsewhere by chance. The relevancy of a piece becomes the mean
    of its own, with its points for a weight, and of its neighbours', each with the points of the
    smaller of the two times exp((cosine - 1) / `temperature`): a bilateral filter (Tomasi and
    Manduchi, *Bilateral Filtering for Gray and Color Images*) over pieces. A small thing on a
    large one that looks different keeps its own.

    Args:
        features: (S, D) float, unit rows; a zero row has no feature, neither hears nor says.
        sizes: (S,) int64, points of each piece.
        first, second: (P,) int64, pairs of pieces that are near each other.
        temperature: unitless, > 0, as of `relevancy`.
    """

    def __init__(
        self,
        features: Tensor,
        sizes: Tensor,
        first: Tensor,
        second: Tensor,
        temperature: float = TEMPERATURE,
    ) -> None:
        require_shape("features", features, None, None)
        require_shape("sizes", sizes, len(features))
        require_shape("first", first, None)
        require_shape("second", second, len(first))
        known = features.any(dim=1)
        both = known[first] & known[second]
        first, second = first[both], second[both]
        parts = [
            (features[near[0]] * features[near[1]]).sum(dim=1)
            for near in torch.split(torch.stack([first, second]), _PAIRS, dim=1)
        ]
        cosines = torch.cat(parts).double()
        alike = torch.exp((cosines - 1) / temperature)
        weight = sizes.clamp(min=1).double()  # (S,)
        shared = alike * torch.minimum(weight[first], weight[second])
        everyone = torch.arange(len(features))
        self._hears = torch.cat([everyone, first, second])
        self._from = torch.cat([everyone, second, first])
        self._weight = torch.cat([weight, shared, shared])
        self._total = torch.zeros_like(weight).index_add_(0, self._hears, self._weight)

    def __call__(self, relevancy: Tensor, rounds: int = ROUNDS) -> Tensor:
        """Average in some rounds.

        Args:
            relevancy: (S,) float.
            rounds: so often; with each, pieces one further away are heard.

        Returns:
            (S,) of the same dtype, between the least and the largest of what was given.
        """
        require_shape("relevancy", relevancy, len(self._total))
        found = relevancy.double()
        for _ in range(rounds):
            said = self._weight * found[self._from]
            found = torch.zeros_like(found).index_add_(0, self._hears, said) / self._total
        return found.to(relevancy.dtype)


def similarity_floor(
    features: Tensor, vocabulary: Tensor, quantile: float = FLOOR_QUANTILE
) -> float:
    """Compute the cosine of features with words they do not mean; answers have to exceed it.

    Text spaces differ in what counts as similar, so that the floor is taken from the features at
    hand: of the cosines between each of them and every word but its best, the given quantile.

    Args:
        features: (P, D) float, unit rows; zero rows are left out.
        vocabulary: (K, D) float, unit rows.
        quantile: in [0, 1].

    Returns:
        A cosine; -1 where there is nothing to compare.
    """
    require_shape("features", features, None, vocabulary.shape[1])
    cosines = features[features.any(dim=1)] @ vocabulary.T  # (P', K)
    wrong = cosines.sort(dim=1).values[:, :-1].flatten()
    if len(wrong) == 0:
        return -1.0
    rank = round(quantile * (len(wrong) - 1))
    return float(wrong.kthvalue(rank + 1).values)


def meant_word(query: Tensor, vocabulary: Tensor, quantile: float = MEANT_QUANTILE) -> int | None:
    """Find the word of the vocabulary that a text is about, if it is about one.

    Args:
        query: (D,) float, unit length.
        vocabulary: (K, D) float, unit rows.
        quantile: of the cosines between different words that the text has to exceed, in [0, 1].

    Returns:
        Row of the nearest word; None where even that is no nearer to the text than different words
        are to each other.
    """
    require_shape("query", query, None)
    require_shape("vocabulary", vocabulary, None, len(query))
    apart = ~torch.eye(len(vocabulary), dtype=torch.bool, device=vocabulary.device)
    between = (vocabulary @ vocabulary.T)[apart]
    cosines = vocabulary @ query
    nearest = int(cosines.argmax())
    if len(between) == 0:
        return nearest
    rank = round(quantile * (len(between) - 1))
    return nearest if cosines[nearest] > between.kthvalue(rank + 1).values else None
