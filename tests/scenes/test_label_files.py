"""Files of one label a point."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from pcdistill.errors import ConfigError, SceneError
from pcdistill.scenes import get_export_format, load_label_set, read_label_file, write_ply
from tests.scenes.exports.clouds import FAR, cloud, source_coordinates

SET = load_label_set("scannet20")


@pytest.mark.parametrize("format", ["ply", "npz"])
@pytest.mark.parametrize("offset", [(0.0, 0.0, 0.0), FAR])
def test_exports_are_read_again(tmp_path, format, offset):
    of = cloud(300, offset=offset)
    file = tmp_path / f"a.{format}"
    get_export_format(format).write(file, of)
    found = read_label_file(file, of.label_set, "predicted")
    assert torch.equal(found.labels, torch.where(of.answers < 0, -2, of.answers))
    assert np.abs(found.points.numpy() - source_coordinates(of)).max() < 1e-5
    assert read_label_file(file, of.label_set, "true").labels[0] == -1


def test_the_benchmarks_own_layout_is_read_again(tmp_path):
    of = cloud()
    get_export_format("scannet").write(tmp_path / "a.txt", of)
    found = read_label_file(tmp_path / "a.txt", of.label_set, "predicted")
    assert torch.equal(found.labels, torch.where(of.answers < 0, -2, of.answers))
    assert found.points is None


def test_true_ids_of_other_classes_are_ignored_and_predicted_ones_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1\n0\n13\n39\n40\n")
    true = read_label_file(tmp_path / "a.txt", SET, "true")
    assert true.labels.tolist() == [0, -1, -1, 19, -1]
    with pytest.raises(SceneError, match=r"has the ids 13, 40, which are no class of scannet20"):
        read_label_file(tmp_path / "a.txt", SET, "predicted")


def test_a_ply_may_have_ids(tmp_path):
    points, ids = torch.zeros(4, 3), torch.tensor([0, 39, 2, 40])
    write_ply(tmp_path / "a.ply", points, labels=ids)
    found = read_label_file(tmp_path / "a.ply", SET, "true", has_ids=True)
    assert found.labels.tolist() == [-1, 19, 1, -1]


def test_none_of_files_is_none(tmp_path):
    write_ply(tmp_path / "a.ply", torch.zeros(3, 3), labels=torch.tensor([255, 256, 3]))
    assert read_label_file(tmp_path / "a.ply", SET, "predicted").labels.tolist() == [-2, -2, 3]
    with pytest.raises(SceneError, match=r"labels outside of scannet20 \(256\)"):
        read_label_file(tmp_path / "a.ply", SET, "true")


def test_an_empty_text_has_no_points(tmp_path):
    (tmp_path / "a.txt").touch()
    assert read_label_file(tmp_path / "a.txt", SET, "true").labels.tolist() == []


def ply(file, name, values):
    write_ply(file, torch.zeros(len(values), 3), scalars={name: torch.tensor(values)})


def npz(file, **arrays):
    np.savez(file, **{name: np.array(values) for name, values in arrays.items()})


def npz_of_bytes(file, content):
    """An archive whose array `labels` begins like one of NumPy."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.npy", b"\x93NUMPY\x01\x00" + bytes([len(content), 0]) + content)


def npz_of_no_array(file, name):
    np.savez(file, labels=np.array([1]))
    content = {"labels.npy": zipfile.ZipFile(file).read("labels.npy"), f"{name}.npy": b"\x92NUMPY"}
    with zipfile.ZipFile(file, "w") as archive:
        for member, held in content.items():
            archive.writestr(member, held)


def text(file, content):
    file.write_text(content)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.ply", lambda f: ply(f, "class", [1.0]), "no property 'label' .* class"),
        ("a.ply", lambda f: ply(f, "label", [0.5]), "labels are not whole numbers"),
        ("a.ply", lambda f: text(f, "hello"), "is not a PLY|begin|PLY"),
        ("a.npz", lambda f: text(f, "hello"), "is no archive of NumPy arrays"),
        ("a.npz", lambda f: npz_of_bytes(f, b"{'descr': (\0"), "is no archive of NumPy arrays"),
        ("a.npz", lambda f: npz_of_bytes(f, b"{'a': ('<f4',\n"), "is no archive of NumPy arr"),
        ("a.npz", lambda f: npz_of_no_array(f, "labels"), "arrays .'labels' is none"),
        ("a.npz", lambda f: npz_of_no_array(f, "points"), "arrays .'points' is none"),
        ("a.npz", lambda f: npz_of_no_array(f, "class_names"), "arrays .'class_names' is none"),
        ("a.npz", lambda f: npz(f, label=[1]), "has no array 'labels'"),
        ("a.npz", lambda f: npz(f, labels=["a"]), "expected integers"),
        ("a.npz", lambda f: npz(f, labels=[1], points=[[1.0, 2]]), r"'points' are \(1, 2\)"),
        ("a.npz", lambda f: npz(f, labels=[1], class_names=["x"]), "not those of scannet20"),
        ("a.npz", lambda f: npz(f, labels=[20]), r"outside of scannet20 \(20\)"),
        ("a.txt", lambda f: text(f, "1\nchair\n"), "a line that is no whole number"),
        ("a.txt", lambda f: text(f, "1 2\n3 4\n"), "has 2 numbers on a line"),
        ("b.txt", lambda f: None, "cannot be read .No such file"),
        ("b.npz", lambda f: None, "cannot be read .No such file"),
    ],
)
def test_what_is_no_file_of_labels_is_refused_in_a_sentence(tmp_path, name, write, said):
    write(tmp_path / name)
    with pytest.raises(SceneError, match=said) as caught:
        read_label_file(tmp_path / name, SET, "true")
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_archive_is_refused_or_read(tmp_path, seed):
    of, file = cloud(), tmp_path / "a.npz"
    get_export_format("npz").write(file, of)
    data, chance = bytearray(file.read_bytes()), np.random.default_rng(seed)
    for place in chance.integers(0, len(data), 1 + seed % 30):
        data[place] ^= int(chance.integers(1, 256))
    file.write_bytes(data[: len(data) // 2] if seed % 4 == 0 else data)
    said = ""
    try:
        count = len(read_label_file(file, of.label_set, "true").labels)
    except SceneError as error:
        said = str(error)
    if said:
        assert said.startswith(f"{file}: ")
        assert "\n" not in said
    else:
        assert count == len(of.labels)
        assert seed % 4


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype=int))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(SceneError, match=r"a\.npz: is no archive of NumPy arrays"):
        read_label_file(tmp_path / "a.npz", SET, "true")


def test_other_suffixes_and_label_sets_without_ids_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.las: is a file '.las', expected one of .ply"):
        read_label_file(tmp_path / "a.las", SET, "true")
    (tmp_path / "a.txt").write_text("1\n")
    with pytest.raises(ConfigError, match="the label set matterport21 knows none"):
        read_label_file(tmp_path / "a.txt", load_label_set("matterport21"), "true")
