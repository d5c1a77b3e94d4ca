"""A whole run with two teachers at full size and random weights: that it ends, and its memory.

Nothing that it finds means anything; what it shows is that weights of the true sizes go through
every stage, and what that takes. The scan is the user's own, in any layout that is read by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from .random_weights import write_weights

WORDS = ("chair", "table", "sink")
POLL_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("scan", type=Path, help="folder of a capture, as for pcdistill run --scan")
    parser.add_argument("--teachers", nargs="+", default=["lseg-fast", "seem"])
    parser.add_argument("--keep", type=Path, help="folder for weights and run, which then stay")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the weights, run, and ask a question."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for entry in ("lseg", "seem", "clip-vit-b-32"):
            write_weights(entry, folder)
        config = folder / "run.yaml"
        config.write_text(yaml.safe_dump(settings(folder, arguments.teachers)))
        begin = time.perf_counter()
        scan = ["--scan", str(arguments.scan)]
        _, peak = watched(["run", str(config), *scan], folder)
        seconds = time.perf_counter() - begin
        answer, _ = watched(["query", str(folder / "run"), "chair"], folder)
    return {"seconds": round(seconds), "peak_gib": round(peak, 2), "answer": answer.splitlines()}


def settings(folder: Path, teachers: list[str]) -> dict[str, Any]:
    """Of a run with as many images of as few words as show that each stage works."""
    words = folder / "words.json"
    words.write_text(json.dumps(WORDS))
    return {
        "run": {
            "workspace": str(folder / "run"),
            "text_encoder": "clip-vit-b-32",
            "teachers": teachers,
            "weights_folder": str(folder),
            "vocabulary": str(words),
        },
        "ingest": {"source": "scan"},
        "synthesize": {"images": 2},
        "distill": {"epochs": 2, "width": 0.25, "voxel_size": 0.05, "architecture": "MinkUNet14A"},
        "report": {"queries": ["chair"]},
    }


def watched(arguments: list[str], folder: Path) -> tuple[str, float]:
    """Run pcdistill; what it printed, and the most memory of it and its children in GiB.

    Embeddings of random weights go into a cache of their own, in `folder`.
    """
    command = [sys.executable, "-m", "pcdistill.cli", *arguments]
    with tempfile.TemporaryFile("w+") as output:
        environment = {**os.environ, "PCDISTILL_CACHE": str(folder / "cache")}
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_gib(process.pid))
            time.sleep(POLL_SECONDS)
        output.seek(0)
        text = output.read()
    if process.returncode:
        sys.exit(f"pcdistill {' '.join(arguments)} ended with {process.returncode}:\n{text}")
    return text, peak


def resident_gib(pid: int) -> float:
    """Resident memory of a process and of all that it started, on Linux.

    Pages that they share count once for each.
    """
    total, waiting = 0, [pid]
    while waiting:
        process = waiting.pop()
        try:
            status = Path(f"/proc/{process}/status").read_text()
            waiting += [
                int(child)
                for task in Path(f"/proc/{process}/task").iterdir()
                for child in (task / "children").read_text().split()
            ]
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(
            int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")
        )
    return total / 2**20
