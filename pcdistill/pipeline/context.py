"""Context of a run: its configuration, its workspace, and the models it has loaded so far."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from pcdistill.capability import (
    ImageGenerator,
    Segmenter,
    SynthesisSetup,
    build_generator,
    build_segmenter,
)
from pcdistill.distillation import INPUT_CHANNELS
from pcdistill.errors import ConfigError, MissingWeightsError, PcdistillError
from pcdistill.evaluation import PROTOCOLS, Protocol, get_protocol
from pcdistill.networks import build_student
from pcdistill.pipeline.capability_files import FoundTable, find_table
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.pretrained import PretrainedStudent, load_pretrained, resolve_checkpoint
from pcdistill.pipeline.words import RunWords
from pcdistill.pipeline.workspace import Workspace
from pcdistill.scenes import LabelSet, load_label_set, load_vocabulary
from pcdistill.suggest import look_up
from pcdistill.teachers import (
    Teacher,
    TeacherSetup,
    TextEncoder,
    WeightProbe,
    WeightStore,
    build_text_encoder,
    encoder_revision,
    how_to_get_all,
    read_words,
    teacher_revision,
)

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
_CLASSES_NAMED = 4
"""Classes that an error message lists before it counts the rest."""


class RunContext:
    """What stages take their parts from. Models are loaded when first used and then kept."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.workspace = Workspace(Path(config.run.workspace).absolute())
        self._made: dict[Any, Any] = {}
        self._teachers: dict[str, Teacher] = {}

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text space of the run."""
        return build_text_encoder(self.config.run.text_encoder, self.weights)

    @property
    def text_encoder_mark(self) -> str:
        """Name of the text encoder, with the revision of its weights where these are a file."""
        revision = encoder_revision(self.text_encoder)
        name = self.config.run.text_encoder
        return name if revision is None else f"{name} {revision}"

    @cached_property
    def label_set(self) -> LabelSet:
        """Evaluation classes."""
        return load_label_set(self.config.run.label_set)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names used to compare teachers, K words."""
        return load_vocabulary(self.config.run.vocabulary)

    @property
    def words(self) -> RunWords:
        """Vocabulary and evaluation classes in the text space of the run."""
        return RunWords(
            self.text_encoder,
            self.label_set,
            self.vocabulary,
            prompt=self._prompt,
            as_published=self._asks_as_published,
        )

    @property
    def _asks_as_published(self) -> bool:
        """Whether OpenScene's prompts are asked for: where its protocol is, and no other prompt."""
        known = look_up("protocol", self.config.evaluate.protocol, PROTOCOLS)
        return known.published == "openscene" and self.config.run.prompt is None

    @cached_property
    def protocol(self) -> Protocol:
        """What is measured, and how; all points where no teacher looks at frames.

        Raises:
            ConfigError: no protocol has the name, or it is not for the label set.
        """
        config = self.config.evaluate
        told = None if self._asks_as_published else self._prompt or self.label_set.template
        return get_protocol(
            config.protocol,
            self.label_set.name,
            self.label_set.names,
            votes=config.votes,
            prompt_template=told,
            points=config.scored_points if self.config.run.teachers else "all",
            voxel_size=self.voxel_size,
        )

    @property
    def measures_ensembles(self) -> bool:
        """Whether the table has rows of OpenScene's 2D-3D ensemble; as its protocols report it."""
        asked = self.config.evaluate.ensemble
        return self.protocol.published == "openscene" if asked is None else asked

    @property
    def voxel_size(self) -> float:
        """Metres: what the run's students see the world in."""
        given = self.pretrained
        return self.config.distill.voxel_size if given is None else given.needs.voxel_size

    @property
    def _prompt(self) -> str | None:
        """What the config or a trained student says that the text encoder reads for a name."""
        own = self.config.run.prompt
        return self.pretrained.prompt if own is None and self.pretrained is not None else own

    @cached_property
    def pretrained(self) -> PretrainedStudent | None:
        """The student that the run was given; None where it trains its own.

        Raises:
            ConfigError: there is no such student, or it does not fit the run.
            ArtifactError: its file is damaged.
        """
        given = self.config.distill.pretrained
        if given is None:
            return None
        student = load_pretrained(resolve_checkpoint(given, self.workspace), self.config.distill)
        student.require_fit(self.text_encoder, self.config.run.text_encoder)
        return student

    @cached_property
    def weights(self) -> WeightStore:
        """Finds files of weights: those that the run names, and its folder."""
        return WeightStore(self.config.run.weights_folder, self.config.run.weights)

    @property
    def _teacher_device(self) -> torch.device:
        """A GPU where there is one and the run may use it; looking at a run never fails by it."""
        allowed = self.config.distill.device != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if allowed else "cpu")

    def teacher(self, name: str) -> Teacher:
        """A loaded teacher.

        Raises:
            ConfigError: no teacher has this name, it lives in another text space, or its weights
                are not on this machine.
        """
        if name not in self._teachers:
            from pcdistill.teachers import build_teacher  # loads every teacher

            setup = TeacherSetup(
                self.text_encoder,
                self.weights,
                self._teacher_device,
                self.config.run.captioner,
                self.config.run.caption_wording,
                self.vocabulary,
            )
            self._teachers[name] = build_teacher(name, setup)
        return self._teachers[name]

    def validate(self) -> None:
        """Build what is cheap to build, so that a wrong name is found before the work.

        Raises:
            MissingWeightsError: weights are not on this machine; all that are missing are named.
            ConfigError: a teacher, label set, vocabulary, network or protocol is unknown or does
                not fit the others.
            ArtifactError: the trained student's file is damaged.
            MissingExtraError: the package of a teacher or of the student's engine is not installed.
        """
        try:
            self._build_models()
        except MissingWeightsError:
            missing = self._missing_weights()
            if len(missing) < 2:
                raise
            raise MissingWeightsError(how_to_get_all(missing, self.weights.folder)) from None
        _ = self.protocol
        student = self.config.distill
        if self.pretrained is not None:
            self.pretrained.network.set_engine(student.engine)
        else:
            with torch.device("meta"):
                build_student(
                    student.architecture,
                    INPUT_CHANNELS[student.input],
                    self.text_encoder.dimensions,
                    width=student.width,
                    engine=student.engine,
                )
        self._check_words("vocabulary", self.vocabulary)
        self._check_words("label_set", self.label_set.prompt_names)
        if self.config.run.teachers and self.capability_table is None:
            self._check_vocabulary()
        _ = self.device

    def _build_models(self) -> None:
        """Build all that reads files of weights."""
        for name in self.config.run.teachers:
            self.teacher(name)
        _ = self.text_encoder_mark
        if self.config.run.teachers and self.capability_table is None:
            _ = self.generator
            _ = self.segmenter

    def _missing_weights(self) -> list[str]:
        """Names of all weights that the run would look for and that are not there."""
        other = RunContext(self.config)
        other.weights = probe = WeightProbe(self.weights)
        tries: list[Callable[[], object]] = [
            *(partial(other.teacher, name) for name in self.config.run.teachers),
            lambda: other.text_encoder_mark,
        ]
        if self.config.run.teachers and self.config.score.table in ("auto", "measure"):
            tries += [lambda: other.generator, lambda: other.segmenter]
        for build in tries:
            with suppress(PcdistillError):  # of others in its way the run has told or will tell
                build()
        return probe.missing

    def _check_words(self, setting: str, names: Sequence[str]) -> None:
        """Refuse names without a known word; say which words of the others are not known."""
        where = f"run.{setting} '{getattr(self.config.run, setting)}'"
        try:
            self.text_encoder.encode(names)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        unknown = dict.fromkeys(read_words(self.text_encoder, "; ".join(names)).unknown)
        if unknown:
            _LOG.warning(
                "%s: the text encoder does not know %s; such words tell classes apart, but what "
                "looks like them is not found by their meaning",
                where,
                ", ".join(repr(word) for word in unknown),
            )

    def _check_vocabulary(self) -> None:
        """Refuse classes that the image generator cannot draw before the first image is made."""
        name, prompt = self.config.synthesize.generator, self.config.synthesize.prompt
        generator = self.generator
        missing = generator.unsupported_categories(prompt, self.vocabulary)
        if not missing:
            return
        listed = ", ".join(missing[:_CLASSES_NAMED])
        rest = len(missing) - _CLASSES_NAMED
        more = f" and {rest} more" if rest > 0 else ""
        cannot = f"'{name}' cannot draw {listed}{more} of its {len(self.vocabulary)} classes"
        if not generator.unsupported_categories("{}", missing):
            raise ConfigError(
                f"synthesize.prompt is '{prompt}', with which the image generator {cannot}; let it "
                "name the class alone, such as 'a good photo of a {}'"
            )
        raise ConfigError(
            f"run.vocabulary is '{self.config.run.vocabulary}' but the image generator {cannot}; "
            "set run.vocabulary: indoor, or synthesize.generator to one that draws them"
        )

    @cached_property
    def capability_table(self) -> FoundTable | None:
        """Scores that were measured before; None where the run measures its teachers itself.

        Raises:
            ConfigError: the table that the run names has not its scores.
            ArtifactError: it is no table.
        """
        words = self.words
        return find_table(
            self.config.score,
            self.config.synthesize,
            self.text_encoder_mark,
            dict(zip(self.vocabulary, words.prompts(self.vocabulary), strict=True)),
            {name: teacher_revision(self.teacher(name)) for name in self.config.run.teachers},
        )

    @property
    def _synthesis(self) -> SynthesisSetup:
        return SynthesisSetup(self.weights, self._teacher_device, self.config.synthesize)

    @cached_property
    def generator(self) -> ImageGenerator:
        """Draws the synthesised images."""
        return build_generator(self.config.synthesize.generator, self._synthesis)

    @cached_property
    def segmenter(self) -> Segmenter:
        """Turns prompt points into masks."""
        return build_segmenter(self.config.synthesize.segmenter, self._synthesis)

    @cached_property
    def device(self) -> torch.device:
        """Where the student is trained and run.

        Raises:
            ConfigError: CUDA is asked for where there is none, or the engine needs it.
        """
        device = _device(self.config.distill.device)
        if self.config.distill.engine == "triton" and device.type != "cuda":
            raise ConfigError(
                "distill.engine is 'triton', which computes on NVIDIA GPUs only, but the student "
                "is on the CPU here; set distill.engine: torch, or distill.device: cuda where "
                "there is a GPU"
            )
        return device


def once_per_run(make: Callable[[RunContext], T]) -> Callable[[RunContext], T]:
    """Decorate a function of the context so that each context calls it once and keeps the value."""

    @wraps(make)
    def kept(run: RunContext) -> T:
        if make not in run._made:
            run._made[make] = make(run)
        return cast(T, run._made[make])

    return kept


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cpu" or (name == "cuda" and available):
        return torch.device(name)
    raise ConfigError(
        f"distill.device is '{name}' but this machine has "
        f"{'CUDA and CPU' if available else 'no CUDA device'}; use auto or cpu"
    )
