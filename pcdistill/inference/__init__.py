"""Answers to questions: how well places fit a text, and which superpoints make one place."""

from pcdistill.inference.labelled_clouds import export
from pcdistill.inference.methods import (
    BINARY,
    CAPABILITY,
    COMBINED,
    FUSED,
    ORACLE,
    POOLED,
    SHUFFLED,
    VOXELS,
    default_row,
    fuse_in_chunks,
    predicted_labels,
    row_capabilities,
    row_features,
    row_inputs,
    row_names,
    seen_by_frames,
    usable_scenes,
)
from pcdistill.inference.pieces import average_pieces, made_from, scene_pieces
from pcdistill.inference.places import MIN_POINTS, Place, connected_places
from pcdistill.inference.questions import ignored_words, known_words
from pcdistill.inference.relevancy import (
    GENERAL_PHRASES,
    meant_word,
    query_alternatives,
    relevancy,
    similarity_floor,
)
from pcdistill.inference.text_query import ask, query
from pcdistill.inference.true_capability import measure_capability, read_true_capability

__all__ = [
    "BINARY",
    "CAPABILITY",
    "COMBINED",
    "FUSED",
    "GENERAL_PHRASES",
    "MIN_POINTS",
    "ORACLE",
    "POOLED",
    "SHUFFLED",
    "VOXELS",
    "Place",
    "ask",
    "average_pieces",
    "connected_places",
    "default_row",
    "export",
    "fuse_in_chunks",
    "ignored_words",
    "known_words",
    "made_from",
    "meant_word",
    "measure_capability",
    "predicted_labels",
    "query",
    "query_alternatives",
    "read_true_capability",
    "relevancy",
    "row_capabilities",
    "row_features",
    "row_inputs",
    "row_names",
    "scene_pieces",
    "seen_by_frames",
    "similarity_floor",
    "usable_scenes",
]
