"""Evaluation: metrics, protocols, and comparisons with confidence intervals."""

from pcdistill.evaluation.comparisons import (
    Comparison,
    comparison_sentence,
    enumerated,
    interval_note,
    reach_sentence,
)
from pcdistill.evaluation.confusion_cells import confusion_cells, confusion_counts
from pcdistill.evaluation.metrics import ConfusionMatrix, mean_over_classes
from pcdistill.evaluation.paired import PairedDifference, paired_difference
from pcdistill.evaluation.protocols import OPENSCENE, PROTOCOLS, Average, Protocol, get_protocol
from pcdistill.evaluation.rank_correlation import (
    Agreement,
    interval_in_words,
    rank_agreement,
    spearman,
)
from pcdistill.evaluation.scene_bootstrap import class_totals, scene_interval
from pcdistill.evaluation.semantic import (
    GroupScore,
    SemanticResult,
    evaluate_semantic,
    score_counts,
)
from pcdistill.labels import NO_FEATURE_LABEL

__all__ = [
    "NO_FEATURE_LABEL",
    "OPENSCENE",
    "PROTOCOLS",
    "Agreement",
    "Average",
    "Comparison",
    "ConfusionMatrix",
    "GroupScore",
    "PairedDifference",
    "Protocol",
    "SemanticResult",
    "class_totals",
    "comparison_sentence",
    "confusion_cells",
    "confusion_counts",
    "enumerated",
    "evaluate_semantic",
    "get_protocol",
    "interval_in_words",
    "interval_note",
    "mean_over_classes",
    "paired_difference",
    "rank_agreement",
    "reach_sentence",
    "scene_interval",
    "score_counts",
    "spearman",
]
