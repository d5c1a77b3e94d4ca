"""Configuration of a run: one frozen dataclass for each section of its YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pcdistill.capability import DiffusionSettings
from pcdistill.distillation import TrainerSettings
from pcdistill.errors import require_setting
from pcdistill.prompts import PROMPT_SETS, is_prompt
from pcdistill.scenes import ScanSettings


@dataclass(frozen=True)
class GeneralConfig:
    """What concerns the whole run."""

    title: str = "pcdistill run"
    """Heading of the report."""
    workspace: str = "runs/run"
    """Folder of all artefacts; a relative path is taken from the current folder."""
    seed: int = 0
    """Seeds everything random."""
    text_encoder: str = "static"
    """The text space in which teachers, vocabulary and questions meet: `static`, `clip-vit-b-16`,
    `clip-vit-b-32`, `clip-vit-l-14-336`, a model of SigLIP2 or TIPSv2 such as `tipsv2-b14`, or any
    model of open_clip with its weights, such as `open-clip:ViT-B-16/datacomp_xl_s13b_b90k`."""
    label_set: str = "scannet20"
    """Evaluation classes: a name or the path of a JSON file."""
    vocabulary: str = "indoor"
    """Class names used to compare teachers: a name or the path of a JSON file."""
    prompt: str | None = None
    """What the text encoder reads for a class name, which takes the place of {}; other braces are
    text. `imagenet-81` is the mean over CLIP's 80 prompts for ImageNet and the name alone. By
    default what it read when a trained student learned, else the template in the label set's file
    and, for the vocabulary, `a {} in a scene`."""
    teachers: tuple[str, ...] = ("demo-dense", "demo-masks")
    """Their order is the teacher axis of every (T, ...) tensor. There may be none where a trained
    student is given, for scans without frames. `maskclip`, `siglip2` and `tipsv2` look with the
    image side of the text encoder."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Files of weights by name, wherever they are, such as `{lseg: /data/demo_e200.ckpt}`; the
    names are those of `pcdistill weights list`."""
    weights_folder: str | None = None
    """Folder of the other files of weights, under their authors' names. By default that of the
    environment variable PCDISTILL_WEIGHTS, else `~/.cache/pcdistill/weights`."""
    captioner: str = "template"
    """What describes the masks of a teacher of masks, whose texts are embedded: `template` (label
    and colour, needs no weights) or a captioning network, `tap` or `florence-2`."""
    caption_wording: str = "paper"
    """How a captioning network's text is joined with a mask's label. `paper`: the label takes the
    place of its noun; `release`: `a {adjectives} {label} in a scene`."""

    def __post_init__(self) -> None:
        fits = self.prompt is None or is_prompt(self.prompt)
        sets = ", ".join(PROMPT_SETS)
        require_setting(fits, "run.prompt", f"a text with one {{}}, or {sets}", self.prompt)
        require_setting(self.seed >= 0, "run.seed", "0 or more", self.seed)
        twice = len(set(self.teachers)) != len(self.teachers)
        require_setting(not twice, "run.teachers", "different names", ", ".join(self.teachers))


@dataclass(frozen=True)
class SceneSource:
    """Generated homes or scans, and which of them."""

    source: Literal["homes", "scan"] = "homes"
    """`homes`: generate furnished homes; `scan`: read the folder `path`."""
    path: str | None = None
    """A scan, a folder of scans, the root of a data set, or a file; for `source: scan`."""
    homes: Literal["development", "test"] = "development"
    """Which generated homes. Settings are chosen on development homes, and the demo runs on them;
    test homes are for measurements that are reported, made once with settings that stand."""
    train: int = 8
    """Number of generated training homes."""
    validation: int = 4
    """Number of generated validation homes."""
    frames: int = 28
    """Frames per generated home."""

    def __post_init__(self) -> None:
        require_setting(self.train >= 1, "ingest.train", "at least 1", self.train)
        require_setting(self.validation >= 0, "ingest.validation", "at least 0", self.validation)
        require_setting(self.frames >= 1, "ingest.frames", "at least 1", self.frames)


@dataclass(frozen=True)
class IngestConfig(ScanSettings, SceneSource):
    """Where scenes come from."""

    # Fields come from the last base to the first, then from here: so they are listed to users.

    train_list: str | None = None
    """Text file with the names of the scenes that the student learns from, one a line."""
    validation_list: str | None = None
    """Text file with the names of the scenes that are measured and drawn. With one list the other
    half is what it does not name. Without lists the data set's own division counts; where there is
    none, every fifth place with labels is held out of the training; a single one is learned from
    and measured, and so are scans without labels, on which nothing is measured."""

    prefix = "ingest."

    def __post_init__(self) -> None:
        SceneSource.__post_init__(self)
        ScanSettings.__post_init__(self)


@dataclass(frozen=True)
class LiftConfig:
    """How what teachers see is carried onto points."""

    depth_tolerance: float = 0.25
    """A point is seen if |z - depth| <= tolerance * depth; unitless. OpenScene's code has 0.25 for
    ScanNet, where the paper's text says 0.2, and both have 0.02 for Matterport3D."""
    border: int = 10
    """Pixels along the image border that see nothing."""
    occlusion: Literal["auto", "depth", "mesh", "splat", "none"] = "auto"
    """What tells that something stands before a point: the depth image of the frame; the scene's
    mesh; its points, each drawn as a disc; or nothing, as published for nuScenes. `auto` takes the
    first of them that is there."""
    store_features: Literal["all", "validation"] = "all"
    """Scenes whose features per point and teacher stay on the disk. `validation`: only those that
    are measured and drawn; of the others the teachers' features are fused as they are lifted, and
    fusing anew lifts anew. For data sets whose features would not fit."""
    batch: int = 4
    """Images of one size that a teacher is given at once, where it takes several."""
    workers: int = 2
    """Threads that read frames while the teacher sees others; changes no result."""

    def __post_init__(self) -> None:
        require_setting(self.batch >= 1, "lift.batch", "at least 1", self.batch)
        require_setting(self.workers >= 1, "lift.workers", "at least 1", self.workers)
        require_setting(
            self.depth_tolerance > 0, "lift.depth_tolerance", "> 0", self.depth_tolerance
        )
        require_setting(self.border >= 0, "lift.border", ">= 0", self.border)


@dataclass(frozen=True)
class ReferenceImageSettings:
    """What draws the reference images, how many, and what makes masks of them."""

    generator: str = "embedded"
    """Draws what the prompt says and tells roughly where the class is."""
    prompt: str = "a good photo of a {}"
    """What is drawn, with the class in place of {}, and what the embedded generator reads, too; as
    published. The authors' code asks for "a good photo of a {} in a room"."""
    segmenter: str = "superpixels"
    """Turns prompt points into a mask: `superpixels`, which comes with the package, or Segment
    Anything with weights of its authors: `sam-vit-b`, `sam-vit-l`, `sam-vit-h` (as published),
    `sam2`, `sam3`."""
    images: int = 8
    """Images per class (m of Eq. 3)."""
    threshold: float = 0.7
    """Of the min-max normalised attention map; unitless."""
    prompt_points: int = 3
    """Prompt points per image."""
    clean_border: bool = False
    """Put no prompt points within 70 / 512 of each side of the image, as the authors' code does and
    the paper does not say. Attention of a diffusion model is often high there for no reason; the
    heat maps of the embedded generator are not, and its walls, floors and ceilings lie there."""

    def __post_init__(self) -> None:
        fits = self.prompt.count("{}") == 1
        require_setting(fits, "synthesize.prompt", "a text with one {}", self.prompt)
        require_setting(self.images >= 1, "synthesize.images", "at least 1", self.images)
        inside = 0 < self.threshold < 1
        require_setting(inside, "synthesize.threshold", "between 0 and 1", self.threshold)
        require_setting(
            self.prompt_points >= 1, "synthesize.prompt_points", "at least 1", self.prompt_points
        )


@dataclass(frozen=True)
class SynthesizeConfig(DiffusionSettings, ReferenceImageSettings):
    """How reference images of each vocabulary class are made without annotations."""

    # Fields come from the last base to the first: so they are listed to users.

    def __post_init__(self) -> None:
        ReferenceImageSettings.__post_init__(self)
        DiffusionSettings.__post_init__(self)


@dataclass(frozen=True)
class ScoreConfig:
    """How a teacher's skill is summed up."""

    table: str = "auto"
    """Where the scores are from. `measure`: images are synthesised and the teachers are scored on
    them. The path of a table that `pcdistill capability RUN --out FILE` wrote: its scores, which
    must be of the run's teachers, words and text encoder; no image is made. `auto`: those of the
    table that comes with the package, where it has them, measured on images that `synthesize`
    would make; else as `measure`."""
    pooled: bool = False
    """Pool intersections and unions over images instead of averaging each image's IoU."""


@dataclass(frozen=True)
class FuseConfig:
    """How the teachers' point features become one."""

    temperature: float = 0.05
    """Softmax temperature of Eq. 8, unitless; smaller trusts the more capable teacher more."""
    mode: Literal["paper", "release"] = "paper"
    """`release` normalises each pair of probabilities to sum 1 first."""
    store_point_features: bool = False
    """Also store fused features per point, which the student `point` needs; without them a scene
    takes less than a fiftieth of the disk."""

    def __post_init__(self) -> None:
        require_setting(self.temperature > 0, "fuse.temperature", "> 0", self.temperature)


@dataclass(frozen=True)
class PartitionConfig:
    """How a scan is cut into superpoints."""

    method: Literal["auto", "mesh", "neighbors", "none"] = "auto"
    """`auto` takes the mesh where the scene has one, else nearest neighbours."""
    threshold: float = 0.01
    """Merging threshold on normal differences, unitless."""
    min_size: int = 60
    """Smaller superpoints join a neighbour; points."""
    neighbors: int = 8
    """Edges per point where there is no mesh."""
    color_weight: float = 0.0
    """How much a difference of colour counts beside a difference of normals, unitless; 0 leaves
    colour out, as published, 1 parts what differs by a tenth of black to white."""

    def __post_init__(self) -> None:
        require_setting(self.threshold > 0, "partition.threshold", "> 0", self.threshold)
        require_setting(self.min_size >= 1, "partition.min_size", "at least 1", self.min_size)
        require_setting(self.neighbors >= 1, "partition.neighbors", "at least 1", self.neighbors)
        require_setting(self.color_weight >= 0, "partition.color_weight", ">= 0", self.color_weight)


PRETRAINED = "pretrained"
"""Name of a student that the run was given."""


@dataclass(frozen=True)
class StudentSettings:
    """Which students there are, and what they are."""

    students: tuple[Literal["point", "superpoint", "superpoint+ensemble"], ...] = (
        "superpoint",
        "superpoint+ensemble",
    )
    """Which losses; each gives a student."""
    pretrained: str | None = None
    """A student that is trained already, in place of training any: the workspace of a finished run
    (its best measured student), `WORKSPACE:STUDENT`, or a checkpoint. What it needs to know of a
    scan comes with it; where nothing does, as with OpenScene's files, from `voxel_size` and
    `input`."""
    architecture: str = "MinkUNet18A"
    """One of the MinkUNet family."""
    width: float = 1.0
    """Multiplies every channel count; 1 is the published network."""
    input: Literal["constant", "geometry", "color"] = "constant"
    """What the student sees of a voxel: nothing but that it is there, as published; or its normal
    and height; or these and its colour. The more it sees, the fewer steps it needs."""

    def __post_init__(self) -> None:
        names = self.students
        require_setting(len(names) > 0, "distill.students", "at least one name", "none")
        require_setting(
            len(set(names)) == len(names), "distill.students", "different names", ", ".join(names)
        )
        require_setting(self.width > 0, "distill.width", "> 0", self.width)


@dataclass(frozen=True)
class DistillConfig(TrainerSettings, StudentSettings):
    """How the student learns."""

    # Fields come from the last base to the first, then from here: so they are listed to users.

    engine: Literal["torch", "minkowski", "triton"] = "torch"
    """What computes the sparse convolutions: our own code in torch; MinkowskiEngine or, on an
    NVIDIA GPU, our own kernels in Triton, where these are installed. The results are the same to
    rounding."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    validate_every: int = 0
    """Epochs after which the student is measured on the validation scenes that have labels, and
    after the last one; 0 for never. Not on scenes that are there to be measured once: test homes,
    and the test side of a data set."""
    answer: Literal["last", "best"] = "last"
    """Which weights answer: those of the last epoch, or those that were measured best; the others
    are kept beside them. Numbers of the best ones on the same scenes are too good."""
    log: Literal["epoch", "step"] = "epoch"
    """Whether `steps.jsonl` has a line of each step beside the lines of epochs in
    `metrics.jsonl`."""
    tensorboard: bool = False
    """Write files for TensorBoard, of steps and epochs; needs the extra `tensorboard`."""

    def __post_init__(self) -> None:
        StudentSettings.__post_init__(self)
        TrainerSettings.__post_init__(self)
        every = self.validate_every
        require_setting(every >= 0, "distill.validate_every", "0 (never) or more", every)
        require_setting(
            self.epochs >= 2 or "superpoint+ensemble" not in self.students,
            "distill.epochs",
            "at least 2 for the student superpoint+ensemble, whose ensemble begins in the second",
            self.epochs,
        )

    @property
    def student_names(self) -> tuple[str, ...]:
        """The students of the run."""
        return self.students if self.pretrained is None else (PRETRAINED,)


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured, and how."""

    protocol: str = "every point"
    """Name of the evaluation protocol: `every point`, `seen`, `standard`, `foreground` or
    `per scene`; or `openscene` or `long tail`, whose runs, points and prompt are OpenScene's where
    the next two settings and `run.prompt` say nothing else."""
    scored_points: Literal["seen", "all"] | None = None
    """Which points are scored: those that some frame sees, the same for every method, or all; by
    default as the protocol says, which is seen for `every point` and `seen` and all for others."""
    votes: int | None = None
    """Runs whose scores are added, each on other voxels; by default as the protocol says, which is
    5 for `openscene` and `long tail`, turned and scaled at random, and 1 for others."""
    ensemble: bool | None = None
    """Whether the table has a row for OpenScene's 2D-3D ensemble of every student; by default where
    the protocol is `openscene` or `long tail`. Named as `--method`, it answers in any case."""

    def __post_init__(self) -> None:
        enough = self.votes is None or self.votes >= 1
        require_setting(enough, "evaluate.votes", "at least 1", self.votes)


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows."""

    scenes: tuple[str, ...] = ()
    """Scenes that are drawn; by default one validation scene."""
    queries: tuple[str, ...] = ("couch", "fridge", "a place to sleep", "a place to take a bath")
    """Questions whose best answers are listed."""
    expected_classes: tuple[str, ...] = ()
    """The class that answers each question, in their order; says which answers hold."""
    heat_maps: tuple[str, ...] = ("couch", "fridge", "a place to sleep")
    """Questions drawn as heat maps."""
    example_classes: int = 3
    """Words of the vocabulary whose generated images are shown with heat map, coarse mask, pseudo
    mask and each teacher's mask: those on which the teachers differ most; 0 for none."""

    def __post_init__(self) -> None:
        shown = self.example_classes
        require_setting(shown >= 0, "report.example_classes", "0 or more", shown)


@dataclass(frozen=True)
class RunConfig:
    """A whole run."""

    run: GeneralConfig = field(default_factory=GeneralConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    lift: LiftConfig = field(default_factory=LiftConfig)
    synthesize: SynthesizeConfig = field(default_factory=SynthesizeConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    fuse: FuseConfig = field(default_factory=FuseConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def __post_init__(self) -> None:
        there = len(self.run.teachers) > 0 or self.distill.pretrained is not None
        require_setting(
            there, "run.teachers", "at least one name", "none; or set distill.pretrained"
        )


HOME_IMAGE_SIZE = (240, 320)
"""(H, W) pixels of generated frames where the config names no other."""
