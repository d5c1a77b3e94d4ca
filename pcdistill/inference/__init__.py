"""Answers to questions: how well places fit a text, and which superpoints make one place."""

from pcdistill.inference.places import MIN_POINTS, Place, connected_places
from pcdistill.inference.relevancy import (
    GENERAL_PHRASES,
    meant_word,
    query_alternatives,
    relevancy,
    similarity_floor,
)

__all__ = [
    "GENERAL_PHRASES",
    "MIN_POINTS",
    "Place",
    "connected_places",
    "meant_word",
    "query_alternatives",
    "relevancy",
    "similarity_floor",
]
