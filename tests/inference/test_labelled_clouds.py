"""Files that export and query write lie in the frame of the scan's own files."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcdistill.artifacts import SceneSplit
from pcdistill.errors import ConfigError
from pcdistill.inference import MethodTable, Place, Querier, ScenePieces, export_labelled_clouds
from pcdistill.inference import labelled_clouds as export_module
from pcdistill.inference import text_query as query_module
from pcdistill.pipeline import RunWords, write_tensors
from pcdistill.pipeline.workspace import Workspace
from pcdistill.scenes import Scene, load_label_set, read_ply
from pcdistill.scenes.exports.formats import ExportFormat
from pcdistill.version import __version__

OFFSET = [451234.0, 5411876.0, 118.0]


@pytest.fixture
def scene():
    """Turned from y up, with an offset; a triangle among its points."""
    rng = np.random.default_rng(0)
    back = np.eye(4)
    back[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    back[:3, 3] = OFFSET
    return Scene(
        "hall",
        torch.from_numpy(rng.uniform(0, 4, (60, 3)).astype(np.float32)),
        normals=torch.tensor([[0.0, 0, 1]]).repeat(60, 1),
        faces=torch.tensor([[0, 1, 2]]),
        provenance={"scene_to_source": back.tolist()},
    )


@pytest.fixture
def run(scene, tmp_path, monkeypatch):
    """Artifacts of a run with one scene, and labels of it."""
    monkeypatch.setattr(export_module, "stored_scenes", lambda workspace, names: ["hall"])
    for module in (export_module, query_module):
        monkeypatch.setattr(module, "open_stored_scene", lambda folder: scene)
    encoder = SimpleNamespace(encode=lambda texts: torch.eye(20)[: len(texts)], text_space="toy")
    words = RunWords(encoder, load_label_set("scannet20"), ("wall",))
    words.label_embeddings = words.vocabulary_embeddings = torch.eye(20)
    split = SceneSplit((), ("hall",), (), "", generated=False)
    stored = SimpleNamespace(
        provenance=lambda teacher, scene: {"revision": "12ab", "license": "MIT"}
    )
    workspace = Workspace(tmp_path)
    workspace.point_features("demo-dense", "hall").parent.mkdir(parents=True)
    workspace.point_features("demo-dense", "hall").touch()
    write_superpoints(workspace)
    return SimpleNamespace(
        title="Town hall",
        workspace=workspace,
        words=words,
        scenes=split,
        point_features=stored,
        teachers=("demo-dense",),
    )


def write_superpoints(workspace, name="hall"):
    tensors = {"superpoint_ids": torch.zeros(60, dtype=torch.int32)}
    write_tensors(workspace.superpoints(name), tensors, {})


@pytest.fixture
def predictor():
    features = torch.eye(20)[torch.arange(60) % 5]
    seen = torch.arange(60) < 50
    methods = MethodTable(("demo-dense",), ())
    return SimpleNamespace(features=lambda method, scene: (features, seen), methods=methods)


def expected(scene):
    x, y, z = scene.points.double().unbind(dim=1)
    return torch.stack([x, z, -y], dim=1) + torch.tensor(OFFSET, dtype=torch.float64)


def require_source_frame(file, scene):
    found = read_ply(file)
    torch.testing.assert_close(
        found.points.double() + found.offset, expected(scene), rtol=0, atol=1e-6
    )
    assert found.normals[0].tolist() == [0, 1, 0]
    assert found.faces.tolist() == [[0, 1, 2]]
    return found


def test_export_writes_the_scans_own_coordinates(run, predictor, scene, tmp_path):
    file, _ = export_labelled_clouds(run, predictor, "fused", tmp_path / "out")
    found = require_source_frame(file, scene)
    assert found.scalars["label"].tolist() == [i % 5 if i < 50 else 255 for i in range(60)]


def test_export_tells_of_every_point_and_where_it_comes_from(run, predictor, tmp_path):
    file, _ = export_labelled_clouds(run, predictor, "fused", tmp_path / "out")
    found = read_ply(file).scalars
    share = np.e**10 / (np.e**10 + 19)  # cosine 1 with one class, 0 with 19, temperature 0.1
    np.testing.assert_allclose(found["confidence"], [share] * 50 + [0] * 10, rtol=1e-5)
    assert found["instance"].tolist() == [-1] * 60  # ten points of each class are too few
    head = file.read_bytes().partition(b"end_header")[0].decode("ascii")
    assert 'comment pcdistill.run "Town hall"' in head
    assert f'comment pcdistill.version "{__version__}"' in head
    teacher = '{"license": "MIT", "name": "demo-dense", "revision": "12ab"}'
    assert f"comment pcdistill.teachers [{teacher}]" in head
    assert 'comment class 2 "cabinet"' in head


def test_several_formats_are_written_at_once(run, predictor, tmp_path):
    told = []
    files = export_labelled_clouds(
        run,
        predictor,
        "fused",
        tmp_path,
        formats=("npz", "scannet", "ply"),
        zipped=True,
        report=lambda *words: told.append(words),
    )
    names = [str(file.relative_to(tmp_path)) for file in files]
    scenes = ["hall.npz", "scannet/hall.txt", "hall.ply"]
    assert names == [*scenes, "scannet.zip", "classes.txt"]
    lines = (tmp_path / "scannet" / "hall.txt").read_text().splitlines()
    assert lines == ["1", "2", "3", "4", "5"] * 10 + ["0"] * 10
    with np.load(tmp_path / "hall.npz") as arrays:
        assert arrays["labels"].tolist() == [i % 5 for i in range(50)] + [255] * 10
    assert told == [(1, 1, "scenes")]


@pytest.mark.parametrize(
    ("formats", "zipped", "said"),
    [
        (("ply", "pyl"), False, "unknown export format 'pyl'; did you mean 'ply'?"),
        (("ply",), True, r"--zip packs the files of format scannet, got ply; add --format scannet"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    run, predictor, tmp_path, formats, zipped, said
):
    with pytest.raises(ConfigError, match=said):
        export_labelled_clouds(
            run, predictor, "fused", tmp_path / "out", formats=formats, zipped=zipped
        )
    assert not (tmp_path / "out").exists()


def test_scenes_are_exported_one_after_the_other(run, predictor, scene, tmp_path, monkeypatch):
    """Nothing of a scene is alive when the second one after it is written."""
    names = [f"hall{number}" for number in range(6)]
    for name in names:
        write_superpoints(run.workspace, name)
    monkeypatch.setattr(export_module, "stored_scenes", lambda workspace, scenes: names)
    clouds, alive = [], []

    def write(path, cloud):
        clouds.append(weakref.ref(cloud))
        alive.append(sum(one() is not None for one in clouds))

    monkeypatch.setattr(
        export_module, "get_export_format", lambda name: ExportFormat(f".{name}", write)
    )
    files = export_labelled_clouds(run, predictor, "fused", tmp_path, formats=("a", "b"))
    expected = [f"{name}.{suffix}" for name in names for suffix in "ab"]
    assert [file.name for file in files] == [*expected, "classes.txt"]
    assert len(alive) == 12
    assert max(alive) <= 4  # a cloud is counted once in each format


def test_query_writes_and_names_the_scans_own_coordinates(run, scene, monkeypatch):
    answer = query_module.SceneResponse(scene, torch.linspace(0, 1, 60), (), 0.1, 0.5, 0)
    cloud, _ = query_module._draw(run.workspace, query_module.Question("chair"), answer)
    require_source_frame(cloud, scene)


def test_a_place_is_named_in_the_scans_own_coordinates(run, predictor, scene, monkeypatch):
    pieces = SimpleNamespace(ids=torch.zeros(60, dtype=torch.int64), features=torch.eye(20)[:1])
    place = Place(torch.zeros(1, dtype=torch.int64), torch.arange(60), 0.9, (0, 0, 0), (1, 1, 1))
    monkeypatch.setattr(ScenePieces, "features", lambda self, method, scene: pieces)
    monkeypatch.setattr(query_module, "connected_places", lambda points, ids, fits, **how: [place])
    (answer,) = Querier(run, predictor).query_scene("wall", "hall", method="fused").answers
    low, high = expected(scene).aminmax(dim=0)
    assert answer.position == pytest.approx(((low + high) / 2).tolist(), abs=1e-6)
    assert answer.size == pytest.approx((high - low).tolist(), abs=1e-6)
