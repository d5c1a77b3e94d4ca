"""The benchmarks, one module each; tools/benchmark.py lists them.

A module has a docstring whose first line says what is measured, `add_arguments(parser)` and
`run(arguments) -> dict`: what it returns is printed as one JSON object, the last line of output.
"""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
"""Where the benchmarks that write a page write it."""
