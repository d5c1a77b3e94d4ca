"""HTML page of a report: one file, no script, nothing fetched."""

from __future__ import annotations

from pathlib import Path

from pcdistill.reporting.page_values import page_values
from pcdistill.reporting.report_data import ReportData

FOLDER = Path(__file__).parent
TEMPLATE, STYLE = "page.html.j2", "report.css"


def render_html(data: ReportData) -> str:
    """Render the whole page as HTML text; whatever stands in `data` is shown as text."""
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
    return environment.get_template(TEMPLATE).render(page=page_values(data), style=style)
