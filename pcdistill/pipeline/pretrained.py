"""Pretrained students: where the checkpoint is, what input it needs, whether it fits a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill.checksums import file_sha256
from pcdistill.distillation import INPUT_CHANNELS
from pcdistill.errors import ArtifactError, ConfigError
from pcdistill.networks import Checkpoint, MinkUNet, load_checkpoint, save_checkpoint
from pcdistill.pipeline.artifact_files import read_provenance
from pcdistill.pipeline.config import PRETRAINED, DistillConfig
from pcdistill.pipeline.config_loading import load_config
from pcdistill.pipeline.result_files import best_measured
from pcdistill.pipeline.workspace import Workspace
from pcdistill.pipeline.workspace_format import require_known_format
from pcdistill.suggest import suggest
from pcdistill.teachers import TextEncoder

_EXPECTED = (
    "give the workspace of a finished run, WORKSPACE:STUDENT, or the file of a checkpoint "
    "(distill.pretrained)"
)


class StudentInputSpec(NamedTuple):
    """Input of a student: voxel size and channels."""

    voxel_size: float
    """Metres."""
    input: str
    """Key of `INPUT_CHANNELS`."""


class CheckpointSource(NamedTuple):
    """The file of a student, whoever keeps it."""

    path: Path
    checksum: str
    """SHA-256 of the file that the run was given."""


@dataclass(frozen=True, eq=False)
class PretrainedStudent:
    """A student that a run was given."""

    source: CheckpointSource
    network: MinkUNet
    needs: StudentInputSpec
    provenance: Mapping[str, Any]
    """What is known of its training; empty for files of others."""

    @property
    def prompt(self) -> str | None:
        """Prompt of the student's training, with `{}` for a class name; None if unknown."""
        known = self.provenance.get("prompt")
        return known if isinstance(known, str) and known.count("{}") == 1 else None

    def require_fit(self, text_encoder: TextEncoder, name: str) -> None:
        """Check that texts can be compared with what the student says.

        Args:
            text_encoder: of the run.
            name: of the text encoder, for the message.

        Raises:
            ConfigError: it lives in another text space.
        """
        space = self.provenance.get("text_space")
        channels = self.network.architecture.out_channels
        where = f"{self.source.path}: the student"
        fix = (
            "set run.text_encoder to that of its training, or distill.pretrained to another student"
        )
        if space is not None and space != text_encoder.text_space:
            raise ConfigError(
                f"{where} lives in the text space '{space}' but run.text_encoder '{name}' gives "
                f"'{text_encoder.text_space}'; {fix}"
            )
        if channels != text_encoder.dimensions:
            raise ConfigError(
                f"{where} gives {channels} channels but run.text_encoder '{name}' gives "
                f"{text_encoder.dimensions}; {fix}"
            )


def resolve_checkpoint(given: str, workspace: Workspace | None) -> CheckpointSource:
    """Find the file that `distill.pretrained` names, or the workspace's own copy of it.

    Args:
        given: a file, a workspace, or `WORKSPACE:STUDENT`.
        workspace: of the run that is given the student; None where it is for no run.

    Raises:
        ConfigError: there is neither, or no finished student in the workspace it names.
    """
    path = _named_file(given, workspace)
    if path is not None:
        return CheckpointSource(path, _checksum(path))
    copy = None if workspace is None else checkpoint_copy_path(workspace)
    if copy is not None and copy.is_file():
        known = read_provenance(copy)
        if known.get("given") == given:
            return CheckpointSource(copy, str(known.get("checksum")))
    raise ConfigError(f"{given}: does not exist; {_EXPECTED}")


def load_pretrained(source: CheckpointSource, config: DistillConfig) -> PretrainedStudent:
    """Load a student for inference.

    Args:
        source: the file.
        config: says what the file does not.

    Raises:
        ArtifactError: the file is damaged or no student.
        ConfigError: what the student sees of a voxel is not what the config says.
    """
    checkpoint = load_checkpoint(source.path)
    needs = read_input_spec(source.path, checkpoint, config)
    return PretrainedStudent(source, checkpoint.network, needs, checkpoint.metadata["provenance"])


def read_input_spec(path: Path, checkpoint: Checkpoint, config: DistillConfig) -> StudentInputSpec:
    """Read what input a student needs from its own provenance, else from the config.

    Args:
        path: of the checkpoint, for messages.
        checkpoint: the student.
        config: what holds for a student that says nothing of itself.

    Raises:
        ConfigError: the input has another number of channels than the network takes.
        ArtifactError: the provenance has no possible value.
    """
    known = checkpoint.metadata["provenance"].get("config")
    known = known if isinstance(known, dict) else {}
    voxel_size = known.get("voxel_size", config.voxel_size)
    kind = known.get("input", config.input)
    if not isinstance(voxel_size, int | float) or not voxel_size > 0 or kind not in INPUT_CHANNELS:
        raise ArtifactError(
            f"{path}: its provenance says voxel_size {voxel_size} and input {kind}, expected "
            f"metres > 0 and one of {', '.join(INPUT_CHANNELS)}; save the student again"
        )
    channels = checkpoint.network.architecture.in_channels
    if channels != INPUT_CHANNELS[kind]:
        fitting = [name for name, count in INPUT_CHANNELS.items() if count == channels]
        fix = f"set distill.input: {fitting[0]}" if fitting else "give another student"
        raise ConfigError(
            f"{path}: the student takes {channels} channels of a voxel but distill.input "
            f"'{kind}' gives {INPUT_CHANNELS[kind]}; {fix}"
        )
    return StudentInputSpec(float(voxel_size), kind)


def checkpoint_copy_path(workspace: Workspace) -> Path:
    """Path at which a workspace keeps the student that its run was given."""
    return workspace.checkpoint(PRETRAINED)


def copy_checkpoint(
    student: PretrainedStudent, given: str, workspace: Workspace, known: Mapping[str, Any]
) -> None:
    """Write the copy with all that inference needs, so that the workspace stands alone.

    Args:
        student: as it was loaded.
        given: `distill.pretrained`.
        workspace: that keeps the copy.
        known: takes its place in the provenance.

    Raises:
        ArtifactError: the file cannot be written.
    """
    config = student.provenance.get("config")
    provenance = {
        **student.provenance,
        **known,
        "given": given,
        "checksum": student.source.checksum,
        "config": {**(config if isinstance(config, dict) else {}), **student.needs._asdict()},
    }
    save_checkpoint(checkpoint_copy_path(workspace), student.network, provenance)


def _named_file(given: str, workspace: Workspace | None) -> Path | None:
    """Find the file that is named; None where there is nothing of that name."""
    path, student = Path(given), ""
    if not path.exists():
        folder, colon, student = given.rpartition(":")
        path = Path(folder)
        if not colon or not path.is_dir():
            return None
    if workspace is not None and path.resolve().is_relative_to(workspace.root.resolve()):
        raise ConfigError(
            f"{path}: the student lies in the workspace of the run that is given it; set "
            "run.workspace to another folder (--workspace)"
        )
    return _of_workspace(Workspace(path), student) if path.is_dir() else path


def _of_workspace(workspace: Workspace, student: str) -> Path:
    """Find the checkpoint of a finished student: the one named, or else the best measured one.

    Where the run measured none, it is the last one configured.
    """
    if not workspace.config.is_file():
        raise ConfigError(
            f"{workspace.root}: is no workspace of a run, it has no config.yaml; {_EXPECTED}"
        )
    require_known_format(workspace.root)
    names = load_config(workspace.config).distill.student_names
    if student and student not in names:
        raise ConfigError(
            f"{workspace.root}: has no student '{student}'; {suggest(student, names)}"
        )
    finished = [name for name in names if _is_finished(workspace, name)]
    best = best_measured(workspace, [f"student:{name}" for name in finished])
    wanted = student or (best.removeprefix("student:") if best else names[-1])
    if wanted in finished:
        return workspace.checkpoint(wanted)
    others = f", or take {workspace.root}:{finished[-1]}" if finished else ""
    raise ConfigError(
        f"{workspace.root}: its student '{wanted}' is not finished; finish that run first{others} "
        "(distill.pretrained)"
    )


def _is_finished(workspace: Workspace, student: str) -> bool:
    record = workspace.record("distill", student)
    done = record is not None and record.state == "done"
    return done and workspace.checkpoint(student).is_file()


def _checksum(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None
