"""HTML pages of a report and of a comparison: one file each, no script, nothing fetched."""

from __future__ import annotations

from pathlib import Path

from pcdistill.reporting.comparison_page import comparison_page
from pcdistill.reporting.page_values import page_values
from pcdistill.reporting.report_data import ReportData
from pcdistill.reporting.run_comparison import RunsComparison

FOLDER = Path(__file__).parent
TEMPLATE, COMPARISON, STYLE = "page.html.j2", "comparison.html.j2", "report.css"


def render_html(data: ReportData) -> str:
    """Render the whole page as HTML text; whatever stands in `data` is shown as text."""
    return _render(TEMPLATE, page_values(data))


def render_comparison(compared: RunsComparison) -> str:
    """Render the page of several runs as HTML text; names of others are shown as text."""
    return _render(COMPARISON, comparison_page(compared))


def _render(template: str, page: object) -> str:
    import jinja2  # here, for commands that write no page

    files = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(
        loader=files,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, _, _ = files.get_source(environment, STYLE)
    return environment.get_template(template).render(page=page, style=style)
