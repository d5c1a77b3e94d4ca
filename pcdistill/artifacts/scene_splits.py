"""Names of the scenes of a run: those it learns from and those it measures."""

from __future__ import annotations

from typing import NamedTuple

from pcdistill.pipeline import RunContext


class SceneSplit(NamedTuple):
    """Scenes of a run by name."""

    training: tuple[str, ...]
    """Those that the student learns from; none where it is trained already."""
    validation: tuple[str, ...]
    """Those that are measured and drawn."""
    remembered: tuple[str, ...]
    """Those measured although the student has learned from them, as far as it is known."""
    measured_on: str
    """What the measured scenes are to the student, in words; empty where that needs no words."""
    generated: bool
    """Whether they are generated homes."""
    is_test: bool = False
    """Whether those that are measured are there to be measured once: test homes, or the test side
    of a data set's own division."""

    @property
    def all(self) -> tuple[str, ...]:
        """All scenes, training scenes first."""
        return tuple(dict.fromkeys(self.training + self.validation))


def split_scenes(run: RunContext) -> SceneSplit:
    """Tell which scenes a run learns from and measures; where no list says it, see `default_split`.

    Of a student that is trained already its file tells the names of the scenes. Scenes that a
    student has learned from are told in `measured_on`, whatever made it so: it remembers them.

    Raises:
        ConfigError: the folder of scans is missing or has no scan in it.
    """
    config, given, why = run.config.ingest, run.pretrained, ""
    is_test = config.source == "homes" and config.homes == "test"
    if config.source == "homes":
        training = tuple(f"home-train-{i}" for i in range(config.train))
        validation = tuple(f"home-validation-{i}" for i in range(config.validation))
    else:
        from pcdistill.artifacts.scan_sources import open_scan_sources  # loads every reader

        index = open_scan_sources(run).index
        training, validation, why = index.training, index.validation, index.why
        is_test = index.side == "test"
    if run.config.distill.pretrained is not None:
        training = ()
    learned = training if given is None else given.provenance.get("scenes", ())
    known = set(map(str, learned))
    remembered = tuple(name for name in validation if name in known)
    if remembered:
        same = "scenes that the student learned from"
        if given is not None:
            same = "scenes of the names of those that the student learned from"
        measured = len(validation)
        some = f"{measured} scenes, {len(remembered)} of them {same}"
        why = same if len(remembered) == measured else some
    return SceneSplit(training, validation, remembered, why, config.source == "homes", is_test)
