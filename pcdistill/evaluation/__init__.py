"""How good an answer is, in numbers under a named protocol and in pictures a person can judge."""

from pcdistill.evaluation.colors import (
    UNSEEN,
    heat_colors,
    heat_range,
    label_colors,
    superpoint_colors,
)
from pcdistill.evaluation.comparisons import (
    Comparison,
    comparison_sentence,
    enumerated,
    interval_note,
    reach_sentence,
)
from pcdistill.evaluation.confusion_cells import confusion_cells, confusion_counts
from pcdistill.evaluation.metrics import (
    ConfusionMatrix,
    map_predictions,
    mean_over_classes,
    vote,
)
from pcdistill.evaluation.paired import PairedDifference, paired_difference
from pcdistill.evaluation.pictures import (
    draw_points,
    heat_legend,
    label_legend,
    png_bytes,
    save_png,
    stack_pictures,
)
from pcdistill.evaluation.protocols import (
    OPENSCENE,
    PROTOCOLS,
    Protocol,
    SemanticResult,
    evaluate_semantic,
    named_protocol,
)
from pcdistill.evaluation.rank_correlation import Agreement, rank_agreement, spearman
from pcdistill.evaluation.report import report_json, write_report
from pcdistill.evaluation.report_data import (
    CapabilityTable,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    QueryRow,
    ReportData,
    StageCost,
)
from pcdistill.evaluation.views import View, below_ceiling, birds_view, faces_camera
from pcdistill.labels import NO_FEATURE_LABEL

__all__ = [
    "NO_FEATURE_LABEL",
    "OPENSCENE",
    "PROTOCOLS",
    "UNSEEN",
    "Agreement",
    "CapabilityTable",
    "Comparison",
    "ConfusionMatrix",
    "HeatScale",
    "LabelColor",
    "MethodRow",
    "PairedDifference",
    "Picture",
    "Protocol",
    "QueryRow",
    "ReportData",
    "SemanticResult",
    "StageCost",
    "View",
    "below_ceiling",
    "birds_view",
    "comparison_sentence",
    "confusion_cells",
    "confusion_counts",
    "draw_points",
    "enumerated",
    "evaluate_semantic",
    "faces_camera",
    "heat_colors",
    "heat_legend",
    "heat_range",
    "interval_note",
    "label_colors",
    "label_legend",
    "map_predictions",
    "mean_over_classes",
    "named_protocol",
    "paired_difference",
    "png_bytes",
    "rank_agreement",
    "reach_sentence",
    "report_json",
    "save_png",
    "spearman",
    "stack_pictures",
    "superpoint_colors",
    "vote",
    "write_report",
]
