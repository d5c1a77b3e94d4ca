"""A script for SLURM: a job a stage, one after the other; what a user gave is never run by it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pcdistill.cli.run import load_run_config
from pcdistill.cli.slurm import JobSettings, count_units, script, slurm
from pcdistill.errors import ConfigError
from pcdistill.pipeline import STAGE_NAMES
from tests.end_to_end.conftest import TINY, pcdistill

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
EVIL = "of a 'lab' $(touch evil) `touch evil`; touch evil \"\n%j"
"""The name of a folder."""
NOTED = """#!/usr/bin/env bash
printf '%s\\0' "$@" >>"$NOTES"
printf 'end\\0' >>"$NOTES"
echo "$((100 + $(tr -cd '\\0' <"$NOTES" | wc -c)));cluster"
"""
"""Takes the place of sbatch: notes what it is given."""
LOCAL = """#!{python}
import os, re, subprocess, sys
given = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
tasks = range(int(given["array"].partition("-")[2]) + 1) if "array" in given else [0]
started = [
    subprocess.Popen(["sh", "-c", given["wrap"]], cwd=given["chdir"], stdout=output, stderr=output)
    for output in [open(re.sub("%.*[.]", f"{{task}}.", given["output"]), "wb") for task in tasks]
]
with open(os.environ["NOTES"], "a") as notes:
    print(given["job-name"], [one.wait() for one in started], file=notes)
print(os.getpid())
"""
"""Takes the place of sbatch: does the work at once on this machine, an array side by side."""


def settings(root: Path, **changes) -> JobSettings:
    known = {"config": root / "a.yaml", "scan": None, "workspace": root / "run", "overrides": ()}
    return JobSettings(**{**known, "array": 4, "jobs": 2, "gpus": 0, "options": (), **changes})


def submitted(root: Path, text: str) -> list[list[str]]:
    """Words of each sbatch that the script ran, whose paths are below `root`."""
    (root / "bin").mkdir()
    (root / "bin" / "sbatch").write_text(NOTED)
    (root / "bin" / "sbatch").chmod(0o755)
    environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "NOTES": str(root / "notes")}
    (root / "script.sh").write_text(text)
    subprocess.run(["bash", "-n", root / "script.sh"], check=True)
    subprocess.run(["bash", root / "script.sh"], check=True, env=environment, cwd=root)
    *calls, rest = (root / "notes").read_text().split("end\0")
    assert rest == ""
    return [call.split("\0")[:-1] for call in calls]


def test_each_stage_is_an_array_after_the_one_before(tmp_path):
    units = {"ingest": 3, "lift": 30, "fuse": 0, "distill": 5, "report": 1}
    calls = submitted(tmp_path, script(settings(tmp_path), units))
    assert [call[0] for call in calls] == ["--parsable"] * 4  # none for a stage without units
    assert [[w for w in call if w.startswith("--array")] for call in calls] == [
        ["--array=0-2"],
        ["--array=0-3"],
        [],
        [],
    ]
    after = [[w for w in call if w.startswith("--dependency")] for call in calls]
    assert after[0] == []
    assert len({tuple(one) for one in after}) == 4
    for one in after[1:]:
        assert one[0].removeprefix("--dependency=afterany:").isdecimal()
    wraps = [call[-1].removeprefix("--wrap=exec ") for call in calls]
    run = f"{sys.executable} -m pcdistill.cli run {tmp_path}/a.yaml --only {{}} --jobs 2"
    assert wraps == [
        run.format(stage) + f" --workspace {tmp_path}/run"
        for stage in ("ingest", "lift", "distill", "report")
    ]
    assert f"--output={tmp_path}/run/slurm/lift-%A_%a.out" in calls[1]
    assert (tmp_path / "run" / "slurm").is_dir()


def test_several_gpus_train_by_torchrun_and_other_models_get_one(tmp_path):
    units = dict.fromkeys(("lift", "fuse", "distill"), 4)
    lift, fuse, distill = submitted(tmp_path, script(settings(tmp_path, gpus=4), units))
    assert "--gpus=1" in lift
    assert not [word for word in fuse if word.startswith("--gpus")]
    assert "--gpus=4" in distill
    assert "-m torch.distributed.run --standalone --nproc-per-node=4 --module" in distill[-1]


def test_no_word_of_a_user_is_run_by_the_script_or_the_job(tmp_path, monkeypatch):
    root = tmp_path / EVIL
    root.mkdir()
    monkeypatch.chdir(root)
    stub = root / "python"
    stub.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@" >"$GIVEN"\n')
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    given = settings(
        root, scan=root / "scan", overrides=(f"run.title={EVIL}",), options=(f"--comment={EVIL}",)
    )
    (call,) = submitted(tmp_path, script(given, {"lift": 9}))
    assert f"--comment={EVIL}" in call
    assert f"--chdir={root}" in call
    (output,) = [word for word in call if word.startswith("--output=")]
    assert output == f"--output={root}/run/slurm/lift-%A_%a.out".replace("%j", "%%j")
    command = call[-1].removeprefix("--wrap=")
    environment = {**os.environ, "GIVEN": str(tmp_path / "given")}
    subprocess.run(["sh", "-c", command], check=True, env=environment)
    words = (tmp_path / "given").read_text().split("\0")[:-1]
    assert words[2:4] == ["run", f"{root}/a.yaml"]
    assert words[-6:] == [
        *("--scan", f"{root}/scan", "--workspace", f"{root}/run"),
        *("--set", f"run.title={EVIL}"),
    ]
    assert not list(tmp_path.rglob("evil"))


def test_the_command_prints_a_script_of_all_stages(tmp_path):
    changed = ("distill.epochs=5", "ingest.train=2")
    options = ("--partition", "long", "--time", "1:00:00", "--memory", "8G", "--cpus", "4")
    ran = pcdistill(
        *("slurm", DEMO, "--array", 3, "--workspace", tmp_path / "w", *options),
        *("--sbatch", "account=lab", "--set", *changed, "--sbatch", "qos=high"),
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[1] for line in ran.stdout.splitlines() if "units" in line[-6:]] == [
        f"{name}:" for name in STAGE_NAMES
    ]
    jobs = [line for line in ran.stdout.splitlines() if line.startswith("job=$(")]
    common = "--partition=long --time=1:00:00 --mem=8G --cpus-per-task=4 --account=lab --qos=high"
    assert all(common in line and "--set distill.epochs=5 ingest.train=2" in line for line in jobs)
    assert "--array=0-2" in jobs[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sbatch": ("--account=lab",)}, "'--account=lab' is no option of sbatch, expected NAME="),
        ({"sbatch": ("a b=1",)}, "expected NAME=VALUE without dashes"),
        ({"sbatch": ("wrap=rm",)}, "wrap is set by the script itself; leave it out"),
        ({"array": 0}, "--array is 0, expected 1 or more"),
        ({"gpus": -1}, "--gpus is -1, expected 0 or more"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        slurm(DEMO, **options)


def test_units_are_counted_as_the_run_has_them(tmp_path):
    config = load_run_config(DEMO, None, tmp_path, ["ingest.train=2", "ingest.validation=1"])
    assert count_units(config, ("lift", "report")) == {"lift": 6, "report": 1}
    with pytest.raises(ConfigError):
        count_units(load_run_config(DEMO, tmp_path / "none", tmp_path, ["ingest.source=scan"]), ())


@pytest.mark.slow
def test_jobs_of_the_script_finish_a_run(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(LOCAL.format(python=sys.executable))
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    workspace = tmp_path / "a run"
    ran = pcdistill(
        *("slurm", DEMO, "--array", 2, "--jobs", 1, "--workspace", workspace, "--set", *TINY)
    )
    assert ran.returncode == 0, ran.stderr
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NOTES": str(tmp_path / "notes")}
    subprocess.run(["bash", "-c", ran.stdout], check=True, env=environment, timeout=1800)
    notes = (tmp_path / "notes").read_text().splitlines()
    assert [line.split()[0] for line in notes] == [f"pcdistill-{name}" for name in STAGE_NAMES]
    assert all(set(line.split(" ", 1)[1]) <= set("[0, ]") for line in notes), notes
    assert (workspace / "report" / "index.html").exists()
