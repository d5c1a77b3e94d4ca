"""Names of the scenes of a run: those it learns from and those it measures."""

from __future__ import annotations

from pcdistill.artifacts.scan_sources import get_scan_index
from pcdistill.pipeline import RunContext


def scene_names(run: RunContext) -> tuple[str, ...]:
    """Names of all scenes, training scenes first.

    Raises:
        ConfigError: the folder of scans is missing or has no scan in it.
    """
    return tuple(dict.fromkeys(training_scenes(run) + validation_scenes(run)))


def training_scenes(run: RunContext) -> tuple[str, ...]:
    """Scenes that the student learns from; where no list says which, see `default_split`.

    There are none where the student is trained already.
    """
    if run.config.distill.pretrained is not None:
        return ()
    if run.config.ingest.source == "homes":
        return tuple(f"home-train-{i}" for i in range(run.config.ingest.train))
    return get_scan_index(run).training


def validation_scenes(run: RunContext) -> tuple[str, ...]:
    """Scenes that are measured and drawn; where no list says which, see `default_split`."""
    if run.config.ingest.source == "homes":
        return tuple(f"home-validation-{i}" for i in range(run.config.ingest.validation))
    return get_scan_index(run).validation


def remembered_scenes(run: RunContext) -> tuple[str, ...]:
    """Scenes that are measured although the student has learned from them, as far as it is known.

    Of a student that is trained already its file tells the names of the scenes.
    """
    given = run.pretrained
    learned = training_scenes(run) if given is None else given.provenance.get("scenes", ())
    known = set(map(str, learned))
    return tuple(name for name in validation_scenes(run) if name in known)


def measured_on(run: RunContext) -> str:
    """What the scenes that are measured are to the student, in words; empty for generated homes.

    Those that a student has learned from are told, whatever made it so: it remembers them.
    """
    both, measured = len(remembered_scenes(run)), len(validation_scenes(run))
    same = "scenes that the student learned from"
    if run.pretrained is not None:
        same = "scenes of the names of those that the student learned from"
    if both:
        return same if both == measured else f"{measured} scenes, {both} of them {same}"
    return get_scan_index(run).why if run.config.ingest.source == "scan" else ""
