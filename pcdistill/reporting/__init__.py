"""Report of a run: an HTML page with pictures, and its numbers as JSON."""

from pcdistill.reporting.collect import collect_report_data, drawn_rows
from pcdistill.reporting.conclusions import best_of, conclusions, measured_rows
from pcdistill.reporting.report_data import (
    CapabilityTable,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    QueryRow,
    ReportData,
    StageCost,
)
from pcdistill.reporting.write_report import report_json, write_report

__all__ = [
    "CapabilityTable",
    "HeatScale",
    "LabelColor",
    "MethodRow",
    "Picture",
    "QueryRow",
    "ReportData",
    "StageCost",
    "best_of",
    "collect_report_data",
    "conclusions",
    "drawn_rows",
    "measured_rows",
    "report_json",
    "write_report",
]
