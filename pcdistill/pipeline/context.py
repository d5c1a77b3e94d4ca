"""A run in memory: its configuration, its workspace, and the models it has loaded so far."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcdistill.capability import ImageGenerator, Segmenter, build_generator, build_segmenter
from pcdistill.distillation import INPUT_CHANNELS
from pcdistill.errors import ConfigError
from pcdistill.evaluation import Protocol, get_protocol
from pcdistill.networks import build_student
from pcdistill.pipeline.config import RunConfig
from pcdistill.pipeline.pretrained import PretrainedStudent, load_pretrained, resolve_checkpoint
from pcdistill.pipeline.workspace import Workspace
from pcdistill.scenes import LabelSet, load_label_set, load_vocabulary
from pcdistill.teachers import (
    Teacher,
    TextEncoder,
    build_teacher,
    build_text_encoder,
    read_words,
)

_LOG = logging.getLogger(__name__)

PROMPT = "a {} in a scene"
"""Where neither the config nor a trained student says otherwise."""
_CLASSES_NAMED = 4
"""Classes that an error message lists before it counts the rest."""


class RunContext:
    """What every stage is given. Models are loaded when first used and then kept."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.workspace = Workspace(Path(config.run.workspace).absolute())
        self.memory: dict[str, Any] = {}
        """What a stage has looked up once and does not want to look up again."""
        self._teachers: dict[str, Teacher] = {}

    @cached_property
    def text_encoder(self) -> TextEncoder:
        """The text space of the run."""
        return build_text_encoder(self.config.run.text_encoder)

    @cached_property
    def label_set(self) -> LabelSet:
        """Evaluation classes."""
        return load_label_set(self.config.run.label_set)

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names used to compare teachers, K words."""
        return load_vocabulary(self.config.run.vocabulary)

    @cached_property
    def vocabulary_embeddings(self) -> Tensor:
        """Embedded vocabulary (K, D) float32, unit rows (F_text of Eq. 6)."""
        return self.text_encoder.encode(self.prompts(self.vocabulary))

    @cached_property
    def label_embeddings(self) -> Tensor:
        """Embedded `label_prompts` (P, D), unit rows; see `LabelSet.to_categories`."""
        return self.text_encoder.encode(self.label_prompts)

    @property
    def label_prompts(self) -> list[str]:
        """What the text encoder reads for each prompt of the evaluation classes, to tell them."""
        if self._asks_as_published:
            return list(self.label_set.openscene_prompts)
        return self.training_prompts

    @property
    def training_prompts(self) -> list[str]:
        """The same for the pseudo labels of the temporal ensemble, whatever is measured later."""
        prompt = self._told_prompt or self.label_set.template
        return [_filled(prompt, name) for name in self.label_set.prompt_names]

    @property
    def _asks_as_published(self) -> bool:
        """Whether OpenScene's prompts are asked for: where its protocol is, and no other prompt."""
        known = get_protocol(self.config.evaluate.protocol, self.label_set.name)
        return known.published == "openscene" and self.config.run.prompt is None

    @cached_property
    def protocol(self) -> Protocol:
        """What is measured, and how; all points where no teacher looks at frames.

        Raises:
            ConfigError: no protocol has the name.
        """
        config = self.config.evaluate
        told = None if self._asks_as_published else self._told_prompt or self.label_set.template
        return get_protocol(
            config.protocol,
            self.label_set.name,
            votes=config.votes,
            prompt_template=told,
            points=config.scored_points if self.config.run.teachers else "all",
            voxel_size=self.voxel_size,
        )

    @property
    def voxel_size(self) -> float:
        """Metres: what the run's students see the world in."""
        given = self.pretrained
        return self.config.distill.voxel_size if given is None else given.needs.voxel_size

    def prompts(self, names: Sequence[str]) -> list[str]:
        """What the text encoder reads for each name."""
        return [_filled(self.prompt, name) for name in names]

    @cached_property
    def prompt(self) -> str:
        """What the text encoder reads for a word of the vocabulary, with {} in its place."""
        return self._told_prompt or PROMPT

    @cached_property
    def _told_prompt(self) -> str | None:
        """What the config or a trained student says."""
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

    def teacher(self, name: str) -> Teacher:
        """A loaded teacher.

        Raises:
            ConfigError: no teacher has this name, or it lives in another text space.
        """
        if name not in self._teachers:
            teacher = build_teacher(name, self.text_encoder)
            if teacher.text_space != self.text_encoder.text_space:
                raise ConfigError(
                    f"teacher '{name}' lives in the text space '{teacher.text_space}' but "
                    f"run.text_encoder '{self.config.run.text_encoder}' gives "
                    f"'{self.text_encoder.text_space}'; only teachers of one text space can be "
                    "fused, so change run.teachers or run.text_encoder"
                )
            self._teachers[name] = teacher
        return self._teachers[name]

    def validate(self) -> None:
        """Build what is cheap to build, so that a wrong name is found before the work.

        Raises:
            ConfigError: a teacher, label set, vocabulary, network or protocol is unknown or does
                not fit the others.
            ArtifactError: the trained student's file is damaged.
            MissingExtraError: the package of a teacher or of the student's engine is not installed.
        """
        for name in self.config.run.teachers:
            self.teacher(name)
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
        if self.config.run.teachers:
            self._check_vocabulary()
        build_segmenter(self.config.synthesize.segmenter)
        _ = self.device

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

    @cached_property
    def own_words(self) -> frozenset[str]:
        """Words of the run's vocabulary and classes: its features know their directions."""
        names = (*self.vocabulary, *self.label_set.prompt_names)
        return frozenset(word for name in names for word in name.lower().split())

    def _check_vocabulary(self) -> None:
        """Refuse classes that the image generator cannot draw before the first image is made."""
        name, prompt = self.config.synthesize.generator, self.config.synthesize.prompt
        generator = build_generator(name)
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

    def teacher_revision(self, name: str) -> str:
        """Which weights a teacher uses; other weights give other artefacts."""
        return self.teacher(name).provenance.get("revision", "unknown")

    @cached_property
    def generator(self) -> ImageGenerator:
        """Draws the synthesised images."""
        return build_generator(self.config.synthesize.generator)

    @cached_property
    def segmenter(self) -> Segmenter:
        """Turns prompt points into masks."""
        return build_segmenter(self.config.synthesize.segmenter)

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


def _filled(prompt: str, name: str) -> str:
    """A prompt with a name in place of {}; other braces of either are text."""
    return prompt.replace("{}", name)


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
