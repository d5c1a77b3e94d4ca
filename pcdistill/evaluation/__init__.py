"""How good an answer is, in numbers under a named protocol and in pictures a person can judge."""

from pcdistill.evaluation.metrics import (
    NO_FEATURE_LABEL,
    ConfusionMatrix,
    map_predictions,
    mean_over_classes,
    vote,
)
from pcdistill.evaluation.protocols import (
    OPENSCENE,
    PROTOCOLS,
    Protocol,
    SemanticResult,
    evaluate_semantic,
    named_protocol,
)

__all__ = [
    "NO_FEATURE_LABEL",
    "OPENSCENE",
    "PROTOCOLS",
    "ConfusionMatrix",
    "Protocol",
    "SemanticResult",
    "evaluate_semantic",
    "map_predictions",
    "mean_over_classes",
    "named_protocol",
    "vote",
]
