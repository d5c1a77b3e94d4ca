"""Stage lift on points that lie on pixels of two pictures, against sums over the pictures."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from pcdistill import teachers
from pcdistill.artifacts import open_point_features
from pcdistill.artifacts.point_features import (
    projection_rules,
)
from pcdistill.errors import ConfigError
from pcdistill.lifting import lift_frames as lift_frames_module
from pcdistill.lifting.lift_scene import count_views
from pcdistill.lifting.projector import SceneProjector
from pcdistill.pipeline.config import LiftConfig
from pcdistill.pipeline.context import RunContext
from pcdistill.pipeline.stage import fingerprint
from pcdistill.scenes import MemoryFrame, Scene, open_scene
from pcdistill.stages.lift import LiftStage
from pcdistill.stages.score import ScoreStage
from pcdistill.teachers import FeatureMap, LabelledMasks
from pcdistill.teachers.captions import build_captioner
from tests.fixtures.lifted import lift_by
from tests.stages.followed import Outcomes, alike, follows
from tests.stages.toy import (
    MEASURED,
    SCENE,
    TEACHERS,
    nothing,
    store,
    toy_run,
    work,
    write_superpoints,
)
from tests.teachers.captions.made_files import write_vocabulary

HEIGHT, WIDTH, FOCAL, AWAY = 24, 40, 10.0, 2.0
INTRINSICS = torch.tensor([[FOCAL, 0, 20], [0, FOCAL, 12], [0, 0, 1]], dtype=torch.float64)
PIXELS = [(column, row) for row in range(1, HEIGHT, 3) for column in range(0, WIDTH, 3)]
"""Where the points land, one each."""
BORDER, TOLERANCE = 2, 0.1
SHIFT = 3
"""Columns by which the second camera sees every point farther left."""
FAR = 1.3
"""Times the distance of a point, what the depth images say on the left half of the first."""


def position(column: int, row: int) -> list[float]:
    return [(column - 20) * AWAY / FOCAL, (row - 12) * AWAY / FOCAL, AWAY]


def pictures() -> list[torch.Tensor]:
    """Two (H, W, 3) uint8 pictures; every block of 8 by 8 pixels has one colour, or none."""
    made = []
    for seed in (1, 2, 3):
        generator = torch.Generator().manual_seed(seed)
        blocks = torch.randint(0, 4, (HEIGHT // 8, WIDTH // 8), generator=generator)
        colors = torch.cat([200 * torch.eye(3), torch.zeros(1, 3)]).byte()[blocks]
        made.append(colors.repeat_interleave(8, dim=0).repeat_interleave(8, dim=1))
    return made


def depths() -> list[torch.Tensor]:
    """What the first camera measures is too far on its left half; the second one is right."""
    first = torch.full((HEIGHT, WIDTH), AWAY)
    first[:, : WIDTH // 2] = FAR * AWAY
    first[:, -8:] = 0  # no reading
    return [first, torch.full((HEIGHT, WIDTH), AWAY), torch.full((HEIGHT, WIDTH), AWAY)]


def scene(name: str = SCENE, *, measured: bool = True) -> Scene:
    """The third camera looks from where the first stands."""
    frames = []
    for number, (picture, depth) in enumerate(zip(pictures(), depths(), strict=True)):
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, 3] = SHIFT * AWAY / FOCAL if number == 1 else 0
        frames.append(
            MemoryFrame(f"f{number}", INTRINSICS, pose, picture, depth if measured else None)
        )
    points = torch.tensor([position(*pixel) for pixel in PIXELS])
    return Scene(name, points, frames=tuple(frames))


def sees(number: int, point: int, border=BORDER, tolerance=TOLERANCE, hides=True):
    """The pixel at which a frame sees a point, or None."""
    column, row = PIXELS[point]
    column -= SHIFT if number == 1 else 0
    if not (border <= column < WIDTH - border and border <= row < HEIGHT - border):
        return None
    depth = float(depths()[number][row, column])
    if hides and not abs(depth - AWAY) <= tolerance * depth:
        return None
    return column, row


def by_hand(stored: Scene, teacher: str, **rule) -> dict[int, list[float]]:
    """Point -> mean over the frames that see it; masks count their silence as zero."""
    images = [frame.image() for frame in stored.frames]
    found = {}
    for point in range(len(PIXELS)):
        at = [sees(number, point, **rule) for number in range(3)]
        said = [
            images[number][row, column].double()
            for number, pixel in enumerate(at)
            if pixel is not None
            for column, row in [pixel]
        ]
        if teacher == "demo-masks":
            said = [torch.eye(3)[color.argmax()] if color.any() else color for color in said]
            if not any(bool(one.any()) for one in said):
                continue
        elif said:
            said = [color / 50 for color in said]
        if said:
            found[point] = [*torch.stack(said).mean(dim=0).tolist(), 0.0]
    return found


def counts() -> list[int]:
    """How many frames see each point."""
    return [sum(sees(n, point) is not None for n in range(3)) for point in range(len(PIXELS))]


def in_halves(features: dict[int, list[float]]) -> dict[int, list[float]]:
    return {point: torch.tensor(row).half().tolist() for point, row in features.items()}


def lift(
    folder, teacher: str = "demo-dense", stored: Scene | None = None, **settings
) -> RunContext:
    rule = {"border": BORDER, "depth_tolerance": TOLERANCE, **settings}
    run = toy_run(folder, lift=rule)
    stored = stored or scene()
    store(run, stored)
    write_superpoints(run, stored.name, [0] * len(stored.points))
    work(LiftStage, run, f"{teacher}/{stored.name}")
    return run


def features(run: RunContext, teacher: str, name: str = SCENE) -> dict[int, list[float]]:
    views = open_point_features(run).load_stack(name, (teacher,))
    seen = views.seen[0].nonzero()[:, 0]
    return dict(zip(seen.tolist(), views.of_teacher(0)[seen].tolist(), strict=True))


def stored_scene(run: RunContext) -> Scene:
    return open_scene(run.workspace.scene(SCENE))


@pytest.mark.parametrize("teacher", ["demo-dense", "demo-masks"])
def test_a_point_has_the_mean_of_what_the_frames_that_see_it_say(tmp_path, teacher):
    run = lift(tmp_path, teacher)
    expected = by_hand(stored_scene(run), teacher)
    assert 20 < len(expected) < len(PIXELS)
    assert alike(features(run, teacher), in_halves(expected))
    assert open_point_features(run).seen_points(teacher, SCENE).tolist() == sorted(expected)
    assert open_point_features(run).view_counts(teacher, SCENE).tolist() == counts()
    assert {0, 1, 3} <= set(counts())


def test_a_point_that_a_teacher_did_not_see_has_no_feature_of_another(tmp_path):
    run = lift(tmp_path)
    views = open_point_features(run).load_stack(SCENE, ("demo-dense",))
    assert not views.seen.all()
    assert not views.of_teacher(0)[~views.seen[0]].any()


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("padding", [0, 5])
def test_a_map_is_read_by_the_convention_of_its_teacher(corners, padding):
    """A map of two columns, 0 and 1: a pixel's value is its place between their middles.

    Padding at the right of the image moves the second one away from it.
    """
    width = WIDTH + padding
    ramp = torch.tensor([0.0, 1.0]).expand(4, 3, 2)

    class Ramp:
        name, text_space, dimensions, provenance = "ramp", "toy", 4, {}

        def __call__(self, image):
            covered = (HEIGHT, width) if padding else None
            return FeatureMap(ramp, (HEIGHT, WIDTH), align_corners=corners, covered=covered)

    config = LiftConfig(border=0, occlusion="none")
    found = lift_by(config, scene(), Ramp()).result(dtype=torch.float32)
    for point, feature in zip(found.seen.tolist(), found.features[:, 0].tolist(), strict=True):
        columns = [p[0] for n in range(3) if (p := sees(n, point, 0, hides=False)) is not None]
        if corners:
            values = [column / (width - 1) for column in columns]
        else:
            values = [min(max((column + 0.5) * 2 / width - 0.5, 0), 1) for column in columns]
        assert feature == pytest.approx(sum(values) / len(values), abs=1e-5)


def test_two_masks_of_one_noun_have_the_vectors_of_their_own_captions():
    class Beds:
        name, text_space, dimensions, provenance = "beds", "toy", 4, {}

        def __call__(self, image):
            ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
            ids[:, WIDTH // 2 :] = 1
            return LabelledMasks(ids, torch.eye(4)[:2], ("bed", "bed"), ("a red bed", "a low bed"))

    config = LiftConfig(border=BORDER, occlusion="none")
    found = lift_by(config, scene(), Beds()).result(dtype=torch.float32)
    for point, feature in zip(found.seen.tolist(), found.features.tolist(), strict=True):
        at = [p for n in range(3) if (p := sees(n, point, hides=False)) is not None]
        right = sum(column >= WIDTH // 2 for column, _ in at) / len(at)
        assert feature == pytest.approx([1 - right, right, 0, 0])


@pytest.mark.parametrize(
    ("stage", "unit"), [(LiftStage, f"demo-dense/{SCENE}"), (ScoreStage, "demo-dense")]
)
def test_what_a_teacher_of_other_weights_said_is_stale(tmp_path, stage, unit):
    run, marks = toy_run(tmp_path), []
    for revision in ("1", "1", "2"):
        run.teacher("demo-dense").provenance = {"revision": revision}
        marks.append(fingerprint(stage, stage(run).settings(unit), {}))
    assert marks[0] == marks[1] != marks[2]


def test_a_teacher_that_follows_the_surface_waits_for_the_superpoints(tmp_path):
    """And is given them; no other teacher's features depend on them."""
    run, others = toy_run(tmp_path), toy_run(tmp_path).teacher
    given = []

    class Surface:
        name, text_space, dimensions, provenance = "surface", "toy", 4, {}

        def __call__(self, image):
            raise AssertionError("a scan's frames come with their geometry")

        def predict_views(self, images, geometry):
            given.extend(geometry)
            return [others("demo-masks")(image) for image in images]

    run.teacher = {"demo-masks": Surface(), "demo-dense": others("demo-dense")}.__getitem__
    store(run, scene())
    stage = LiftStage(run)
    needed = {name: {one.stage for one in stage.inputs(f"{name}/{SCENE}")} for name in TEACHERS}
    assert needed == {"demo-masks": {"ingest", "partition"}, "demo-dense": {"ingest"}}
    write_superpoints(run, SCENE, [point % 5 for point in range(len(PIXELS))])
    work(LiftStage, run, f"demo-masks/{SCENE}")
    landed = {int(one) for known in given for one in known.superpoint_ids.unique()}
    assert landed == {-1, 0, 1, 2, 3, 4}


def test_a_scene_in_which_a_teacher_finds_nothing_is_no_failed_one(tmp_path):
    """Of a scene that no frame sees the poses are to blame, of this one nobody."""
    run, others = toy_run(tmp_path), toy_run(tmp_path).teacher
    masks = others("demo-masks")

    class Mute:
        name, text_space, dimensions, provenance = "demo-masks", "toy", 4, {}

        def __call__(self, image):
            return masks(torch.zeros_like(image))

    run.teacher = {"demo-masks": Mute(), "demo-dense": others("demo-dense")}.__getitem__
    store(run, scene())
    write_superpoints(run, SCENE, [0] * len(PIXELS))
    assert "100.0 % unseen" in (said := work(LiftStage, run, f"demo-masks/{SCENE}"))
    assert "finds nothing that it knows" in said
    assert features(run, "demo-masks") == {}


@follows("lift.border")
def test_border(tmp_path) -> Outcomes:
    """Of what is lifted, and of what pictures of the report show."""
    for value in (0, 4):
        run = lift(tmp_path / str(value), border=value)
        stored = stored_scene(run)
        shown = (
            SceneProjector(stored, projection_rules(run.config.lift))
            .project(stored.frames[1])
            .visible
        )
        seen = [sees(1, point, value) is not None for point in range(len(PIXELS))]
        yield (
            (features(run, "demo-dense"), shown.tolist()),
            (in_halves(by_hand(stored, "demo-dense", border=value)), seen),
        )


@follows("lift.depth_tolerance")
def test_depth_tolerance(tmp_path) -> Outcomes:
    """Relative to the measured depth: 0.3 of the point's would do, 0.231 of 2.6 m is 0.6 m."""
    for value in (0.1, 0.229, 0.232):
        run = lift(tmp_path / str(value), depth_tolerance=value)
        expected = by_hand(stored_scene(run), "demo-dense", tolerance=value)
        if value == 0.229:  # nothing more than at 0.1
            assert alike(features(run, "demo-dense"), in_halves(expected))
            continue
        yield features(run, "demo-dense"), in_halves(expected)


def walls(*, measured: bool, faces: bool) -> Scene:
    """A wall of points before a larger one; the depth image says that nothing is there at all."""
    near = torch.tensor([[x / 20, y / 20, 1.0] for x in range(-6, 7) for y in range(-4, 5)])
    far = torch.tensor([[x / 10, y / 10, 2.0] for x in range(-9, 10) for y in range(-6, 7)])
    corners = [x * 9 + y for x in range(12) for y in range(8)]
    triangles = [(a, a + 1, a + 9) for a in corners] + [(a + 1, a + 10, a + 9) for a in corners]
    frame = MemoryFrame(
        "f",
        INTRINSICS,
        torch.eye(4, dtype=torch.float64),
        torch.full((HEIGHT, WIDTH, 3), 200, dtype=torch.uint8),
        torch.full((HEIGHT, WIDTH), 2.0) if measured else None,
    )
    points = torch.cat([near, far])
    return Scene(SCENE, points, faces=torch.tensor(triangles) if faces else None, frames=(frame,))


@follows("lift.occlusion")
def test_occlusion(tmp_path) -> Outcomes:
    """The depth image shows the far wall alone; mesh and points hide it behind the near one."""
    behind = (0.45, 0.25)  # well inside the shadow of the near wall
    for value in ("depth", "none", "mesh"):
        place = walls(measured=True, faces=True)
        run = lift(tmp_path / value, stored=place, occlusion=value, border=0)
        seen = set(features(run, "demo-dense"))
        points = open_scene(run.workspace.scene(SCENE)).points.tolist()
        front = {i for i, p in enumerate(points) if p[2] < 1.5}
        back = {
            i
            for i, p in enumerate(points)
            if p[2] > 1.5 and abs(p[0]) < behind[0] and abs(p[1]) < behind[1]
        }
        found = (front <= seen, not front & seen, back <= seen, not back & seen)
        yield (
            found,
            {
                "depth": (False, True, True, False),
                "none": (True, False, True, False),
                "mesh": (True, False, False, True),
            }[value],
        )
    for value, measured, faces, used in (
        ("auto", True, True, "depth"),
        ("auto", False, True, "mesh"),
        ("auto", False, False, "splat"),
        ("splat", True, True, "splat"),
    ):
        place = walls(measured=measured, faces=faces)
        config = LiftConfig(occlusion=value)
        sight = SceneProjector(place, projection_rules(config))
        sight.project(place.frames[0])
        assert sight.methods_used == {used}


@follows("lift.batch")
def test_batch() -> Outcomes:
    """How many images a teacher that takes several is given at once."""
    for value in (1, 2, 3):
        given: list[int] = []

        class Several:
            name, text_space, dimensions, provenance = "several", "toy", 4, {}

            def predict_batch(self, images, to=given):
                to.append(len(images))
                return [FeatureMap(torch.zeros(4, 2, 2), (HEIGHT, WIDTH)) for _ in images]

        config = LiftConfig(batch=value, border=0)
        lift_by(config, scene(), Several())
        yield given, {1: [1, 1, 1], 2: [2, 1], 3: [3]}[value]


@follows("lift.workers")
def test_workers(tmp_path, monkeypatch) -> Outcomes:
    """Threads that read frames; one more adds up."""
    for value in (1, 3):
        made: list[tuple[str, int]] = []

        class Listening(ThreadPoolExecutor):
            def __init__(self, workers, thread_name_prefix="", to=made):
                to.append((thread_name_prefix, workers))
                super().__init__(workers, thread_name_prefix)

        monkeypatch.setattr(lift_frames_module, "ThreadPoolExecutor", Listening)
        module = sys.modules["pcdistill.lifting.lift_scene"]
        monkeypatch.setattr(module, "ThreadPoolExecutor", Listening)
        run = lift(tmp_path / str(value), workers=value)
        count_views(
            stored_scene(run),
            projection_rules(run.config.lift),
            nothing,
            workers=run.config.lift.workers,
        )
        yield made, [("read-frame", value), ("add-frame", 1), ("", value)]


@follows("lift.store_features")
def test_keep(tmp_path) -> Outcomes:
    """Features are on the disk of all scenes, or of those that are measured."""
    for value in ("all", "validation"):
        sizes = {}
        for name in (SCENE, MEASURED):
            run = lift(tmp_path / value, stored=scene(name), store_features=value)
            views = open_point_features(run).view_counts("demo-dense", name)
            assert views.tolist() == counts()
            size = run.workspace.point_features("demo-dense", name).stat().st_size
            sizes[name] = size > 4 * len(views) + 600
            expected = by_hand(open_scene(run.workspace.scene(name)), "demo-dense")
            assert alike(features(run, "demo-dense", name), in_halves(expected))
        yield sizes, {SCENE: value == "all", MEASURED: True}


class OfFile:
    """A teacher whose weights are a file."""

    name, dimensions = "of-file", 3

    def __init__(self, setup) -> None:
        self.text_space = setup.text_encoder.text_space
        self.provenance = setup.weights.provenance("lseg")


def weights_of(monkeypatch, tmp_path, **settings):
    """The name of the file that a teacher of a run reads."""
    monkeypatch.setitem(teachers.TEACHERS, "of-file", OfFile)
    run = toy_run(tmp_path, run={"teachers": ["of-file"], **settings})
    del run.teacher  # the toy world's
    return run.teacher("of-file").provenance["weights"]


@follows("run.weights")
def test_weights(tmp_path, monkeypatch) -> Outcomes:
    for value in ("one", "other"):
        file = tmp_path / value
        file.write_bytes(b"0")
        yield weights_of(monkeypatch, tmp_path, weights={"lseg": str(file)}), value


@follows("run.weights_folder")
def test_weights_folder(tmp_path, monkeypatch) -> Outcomes:
    """A folder with the file, and one without."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "demo_e200.ckpt").write_bytes(b"0")
    for value, right in (("full", "demo_e200.ckpt"), ("bare", "refused")):
        try:
            found = weights_of(monkeypatch, tmp_path, weights_folder=str(tmp_path / value))
        except ConfigError:
            found = "refused"
        yield found, right


class Describing:
    """A teacher whose texts are those of the captioner of the run."""

    name, dimensions = "describing", 3

    def __init__(self, setup) -> None:
        self.text_space = setup.text_encoder.text_space
        captioner = build_captioner(setup)
        self.provenance = {"revision": f"{captioner.name} {captioner.provenance['revision']}"}


def captions_of(monkeypatch, tmp_path, **settings):
    """What describes the masks of a run whose weights of TAP and Florence-2 are any files."""
    monkeypatch.setitem(teachers.TEACHERS, "describing", Describing)
    (tmp_path / "tap_vit_h_v1_1.pkl").write_bytes(b"0")
    write_vocabulary(tmp_path / "text_tokenizer.model", 5)
    write_florence(tmp_path / "Florence-2-base")
    settings = {"teachers": ["describing"], "weights_folder": str(tmp_path), **settings}
    run = toy_run(tmp_path, run=settings)
    del run.teacher  # the toy world's
    return run.teacher("describing").provenance["revision"]


REVISION_OF_0 = "5feceb66ffc8"
FLORENCE = ("config.json", "model.safetensors", "processor_config.json", "tokenizer.json")


def write_florence(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in FLORENCE:
        (folder / name).write_bytes(b"0")


def revision_of_florence() -> str:
    """By hand: of the lines of names, sizes and SHA-256."""
    digest = hashlib.sha256(b"0").hexdigest()
    lines = "".join(f"{name} 1 {digest}\n" for name in FLORENCE)
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


@follows("run.captioner")
def test_captioner(tmp_path, monkeypatch) -> Outcomes:
    expected = {
        "template": "phrase",
        "tap": f"{REVISION_OF_0} paper",
        "florence-2": f"{revision_of_florence()} regions-1 paper",
    }
    for value, right in expected.items():
        yield captions_of(monkeypatch, tmp_path, captioner=value), f"{value} {right}"


@follows("run.caption_wording")
def test_caption_wording(tmp_path, monkeypatch) -> Outcomes:
    for value in ("paper", "release"):
        found = captions_of(monkeypatch, tmp_path, captioner="tap", caption_wording=value)
        yield found, f"tap {REVISION_OF_0} {value}"
