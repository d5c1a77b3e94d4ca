"""The report of a run: what was measured, as a page with pictures and as data."""

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
    "report_json",
    "write_report",
]
