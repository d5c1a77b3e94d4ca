"""Report of a run: an HTML page with pictures, and its numbers as JSON."""

from pcdistill.reporting.collect import collect_report_data, drawn_methods, stage_cost
from pcdistill.reporting.comparison_page import comparison_page
from pcdistill.reporting.conclusions import best_of, conclusions, measured_results
from pcdistill.reporting.report_data import (
    AskedQuestion,
    CapabilityFindings,
    ClassExamples,
    ConfusionFindings,
    ExampleTile,
    HeatScale,
    LabelColor,
    MethodRow,
    Picture,
    ReferenceSheet,
    ReportData,
    StageCost,
)
from pcdistill.reporting.run_card import CardFacts, run_card, write_run_card
from pcdistill.reporting.run_comparison import RunsComparison, compare_runs
from pcdistill.reporting.run_description import ReportSettings, StudentFacts
from pcdistill.reporting.write_comparison import write_comparison
from pcdistill.reporting.write_files_report import FilesReport, write_files_report
from pcdistill.reporting.write_report import report_json, write_report

__all__ = [
    "AskedQuestion",
    "CapabilityFindings",
    "CardFacts",
    "ClassExamples",
    "ConfusionFindings",
    "ExampleTile",
    "FilesReport",
    "HeatScale",
    "LabelColor",
    "MethodRow",
    "Picture",
    "ReferenceSheet",
    "ReportData",
    "ReportSettings",
    "RunsComparison",
    "StageCost",
    "StudentFacts",
    "best_of",
    "collect_report_data",
    "compare_runs",
    "comparison_page",
    "conclusions",
    "drawn_methods",
    "measured_results",
    "report_json",
    "run_card",
    "stage_cost",
    "write_comparison",
    "write_files_report",
    "write_report",
    "write_run_card",
]
