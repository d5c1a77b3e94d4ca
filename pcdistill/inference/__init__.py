"""Answers to questions: how well places fit a text, and which superpoints make one place."""

from pcdistill.inference.finished_run import FinishedRun, open_context, open_run
from pcdistill.inference.labelled_clouds import export_labelled_clouds
from pcdistill.inference.labeller import Labeller, load_student
from pcdistill.inference.methods import (
    BINARY,
    CAPABILITY,
    COMBINED,
    FUSED,
    ORACLE,
    POOLED,
    SHUFFLED,
    VOXELS,
    default_method,
    fuse_in_chunks,
    load_seen_mask,
    method_capabilities,
    method_dependencies,
    method_features,
    method_names,
    predicted_labels,
    ready_scenes,
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
from pcdistill.inference.text_query import query, query_scene
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
    "FinishedRun",
    "Labeller",
    "Place",
    "average_pieces",
    "connected_places",
    "default_method",
    "export_labelled_clouds",
    "fuse_in_chunks",
    "ignored_words",
    "known_words",
    "load_seen_mask",
    "load_student",
    "made_from",
    "meant_word",
    "measure_capability",
    "method_capabilities",
    "method_dependencies",
    "method_features",
    "method_names",
    "open_context",
    "open_run",
    "predicted_labels",
    "query",
    "query_alternatives",
    "query_scene",
    "read_true_capability",
    "ready_scenes",
    "relevancy",
    "scene_pieces",
    "similarity_floor",
]
