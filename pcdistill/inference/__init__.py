"""Predictions of every method for a scene, and answers to questions about it."""

from pcdistill.inference.answer_records import answer_rows, response_record, why_no_answer
from pcdistill.inference.class_instances import class_instances
from pcdistill.inference.confidence import label_confidence
from pcdistill.inference.evaluated_files import FileIds, MeasuredPair, evaluate_files
from pcdistill.inference.finished_run import FinishedRun, open_run
from pcdistill.inference.fuse_points import FusionRule, fuse_in_chunks
from pcdistill.inference.fusion_diagnosis import FusionDiagnosis
from pcdistill.inference.labelled_clouds import export_labelled_clouds
from pcdistill.inference.labeller import Labeller, load_student
from pcdistill.inference.measured_method import count_scene, score_draws, summarize_method
from pcdistill.inference.methods import (
    BINARY,
    CAPABILITY,
    COMBINED,
    ENSEMBLE,
    ORACLE,
    POOLED,
    SHUFFLED,
    VOXELS,
    MethodTable,
    looks_in_voxels,
    weighs_by_capability,
)
from pcdistill.inference.pieces import ScenePieces, average_pieces
from pcdistill.inference.places import MIN_POINTS, Place, connected_places
from pcdistill.inference.point_explanation import PointExplanation, TeacherVote, explain_point
from pcdistill.inference.predictor import ScenePredictor
from pcdistill.inference.questions import (
    GENERAL_PHRASES,
    Question,
    ignored_words,
    known_words,
)
from pcdistill.inference.relevancy import (
    meant_word,
    query_alternatives,
    relevancy,
    similarity_floor,
)
from pcdistill.inference.student_checks import require_contrast, require_finite_loss
from pcdistill.inference.student_validation import StudentValidation
from pcdistill.inference.text_query import Querier, QueryMatch, Response, SceneResponse
from pcdistill.inference.true_capability import measure_capability, read_true_capability

__all__ = [
    "BINARY",
    "CAPABILITY",
    "COMBINED",
    "ENSEMBLE",
    "GENERAL_PHRASES",
    "MIN_POINTS",
    "ORACLE",
    "POOLED",
    "SHUFFLED",
    "VOXELS",
    "FileIds",
    "FinishedRun",
    "FusionDiagnosis",
    "FusionRule",
    "Labeller",
    "MeasuredPair",
    "MethodTable",
    "Place",
    "PointExplanation",
    "Querier",
    "QueryMatch",
    "Question",
    "Response",
    "ScenePieces",
    "ScenePredictor",
    "SceneResponse",
    "StudentValidation",
    "TeacherVote",
    "answer_rows",
    "average_pieces",
    "class_instances",
    "connected_places",
    "count_scene",
    "evaluate_files",
    "explain_point",
    "export_labelled_clouds",
    "fuse_in_chunks",
    "ignored_words",
    "known_words",
    "label_confidence",
    "load_student",
    "looks_in_voxels",
    "meant_word",
    "measure_capability",
    "open_run",
    "query_alternatives",
    "read_true_capability",
    "relevancy",
    "require_contrast",
    "require_finite_loss",
    "response_record",
    "score_draws",
    "similarity_floor",
    "summarize_method",
    "weighs_by_capability",
    "why_no_answer",
]
