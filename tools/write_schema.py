"""Writer of the JSON schema of the YAML files, for when a setting was added or changed.

python tools/write_schema.py
"""

from __future__ import annotations

from pathlib import Path

from pcdistill.pipeline.config_schema import schema_text

SCHEMA = Path(__file__).resolve().parents[1] / "pcdistill" / "configs" / "schema.json"

if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA}")
