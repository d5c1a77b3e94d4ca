"""PLY in all its encodings, and headers that lie."""

from __future__ import annotations

import logging
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcdistill.errors import SceneError
from pcdistill.scenes import read_ply, write_ply
from pcdistill.scenes.formats.ply_elements import read_tables

FORMATS = ("ascii", "binary_little_endian", "binary_big_endian")
ORDER = {"binary_little_endian": "<", "binary_big_endian": ">"}
CODES = {
    "ushort": "H",
    "float": "f",
    "double": "d",
    "uchar": "B",
    "int": "i",
    "short": "h",
    "uint": "I",
}


def encode(form: str, elements) -> bytes:
    """A PLY file, value by value. `elements`: (name, [(type or (count, type), name)], rows)."""
    header = ["ply", f"format {form} 1.0", "comment made by hand"]
    body = b""
    for element, properties, rows in elements:
        header.append(f"element {element} {len(rows)}")
        for kind, name in properties:
            kind = kind if isinstance(kind, str) else "list {} {}".format(*kind)
            header.append(f"property {kind} {name}")
        for row in rows:
            words = []
            for (kind, _), value in zip(properties, row, strict=True):
                if isinstance(kind, str):
                    words.append((kind, value))
                else:
                    words.append((kind[0], len(value)))
                    words += [(kind[1], item) for item in value]
            if form == "ascii":
                body += " ".join(str(value) for _, value in words).encode() + b"\n"
            else:
                body += b"".join(struct.pack(ORDER[form] + CODES[k], value) for k, value in words)
    return "\n".join([*header, "end_header\n"]).encode() + body


XYZ = [("float", "x"), ("float", "y"), ("float", "z")]
CORNERS = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5, 2.5)]


@pytest.mark.parametrize("form", FORMATS)
def test_properties_are_found_by_name_in_any_order(tmp_path, form):
    properties = [
        ("uchar", "blue"),
        ("double", "z"),
        ("short", "label"),
        ("uchar", "red"),
        ("float", "x"),
        ("float", "nz"),
        ("float", "nx"),
        ("uchar", "green"),
        ("float", "ny"),
        ("float", "y"),
        ("float", "quality"),
    ]
    rows = [
        (1, 2.5, -3, 4, 5.5, 0.0, 1.0, 6, 0.0, 7.5, 0.25),
        (255, -1.5, 9, 0, 1e3, 1.0, 0.0, 8, 0.0, 1.0, 8.0),
    ]
    file = tmp_path / "a.ply"
    file.write_bytes(encode(form, [("vertex", properties, rows)]))
    ply = read_ply(file)
    assert ply.points.tolist() == [[5.5, 7.5, 2.5], [1000, 1, -1.5]]
    assert ply.colors.tolist() == [[4, 6, 1], [0, 8, 255]]
    assert ply.normals.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert ply.faces is None
    assert ply.scalars["label"].tolist() == [-3, 9]
    assert ply.scalars["quality"].tolist() == [0.25, 8]
    assert list(ply.scalars) == ["label", "quality"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["vertex_indices", "vertex_index"])
def test_polygons_become_fans_and_other_face_properties_are_skipped(tmp_path, form, name):
    faces = [((0, 1, 2, 3), 7, (0.5,)), ((4, 0, 1), 8, ()), ((0, 1, 2, 3, 4), 9, (1.0, 2.0))]
    elements = [
        ("vertex", XYZ, CORNERS),
        ("face", [(("uchar", "int"), name), ("int", "id"), (("uchar", "float"), "uv")], faces),
        ("edge", [("int", "vertex1")], [(1,), (2,)]),
    ]
    file = tmp_path / "a.ply"
    file.write_bytes(encode(form, elements))
    ply = read_ply(file)
    assert ply.faces.dtype == torch.int64
    assert ply.faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]


@settings(max_examples=60, deadline=None)
@given(
    form=st.sampled_from(FORMATS),
    lengths=st.lists(st.integers(0, 6), max_size=12),
    seed=st.integers(0, 2**31),
)
@example(form="binary_big_endian", lengths=[4, 4, 4], seed=0)
def test_faces_of_every_length_are_fans(tmp_path_factory, form, lengths, seed):
    rng = np.random.default_rng(seed)
    polygons = [tuple(rng.integers(0, 5, length).tolist()) for length in lengths]
    file = tmp_path_factory.mktemp("ply") / "a.ply"
    rows = [(polygon,) for polygon in polygons]
    elements = [("vertex", XYZ, CORNERS), ("face", [(("uint", "uint"), "vertex_index")], rows)]
    file.write_bytes(encode(form, elements))
    fans = [[p[0], p[i], p[i + 1]] for p in polygons for i in range(1, len(p) - 1)]
    assert read_ply(file).faces.tolist() == fans


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 30),
    faces=st.integers(0, 20),
    seed=st.integers(0, 2**31),
    what=st.sets(st.sampled_from(["colors", "normals", "labels", "scalars", "faces"])),
)
def test_what_is_written_is_read(tmp_path_factory, count, faces, seed, what):
    rng = np.random.default_rng(seed)
    triangles = rng.integers(0, max(count, 1), (faces if count else 0, 3))
    fields = {
        "colors": torch.from_numpy(rng.integers(0, 256, (count, 3), dtype=np.uint8)),
        "normals": torch.from_numpy(rng.normal(size=(count, 3)).astype(np.float32)),
        "labels": torch.from_numpy(rng.integers(-1, 300, count)),
        "scalars": {"heat": torch.from_numpy(rng.random(count).astype(np.float32))},
        "faces": torch.from_numpy(triangles),
    }
    points = torch.from_numpy(rng.normal(size=(count, 3)).astype(np.float32))
    file = tmp_path_factory.mktemp("ply") / "deep" / "a.ply"
    write_ply(file, points, **{key: fields[key] for key in what})
    ply = read_ply(file)
    assert torch.equal(ply.points, points)
    for key in ("colors", "normals", "faces"):
        assert (getattr(ply, key) is None) == (key not in what)
        assert key not in what or torch.equal(getattr(ply, key), fields[key])
    assert ("label" in ply.scalars) == ("labels" in what)
    assert "labels" not in what or torch.equal(ply.scalars["label"], fields["labels"])
    assert "scalars" not in what or torch.equal(ply.scalars["heat"], fields["scalars"]["heat"])
    assert [entry.name for entry in file.parent.iterdir()] == ["a.ply"]


def test_another_reader_agrees(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    points, faces = torch.tensor(CORNERS), torch.tensor([[0, 1, 2], [2, 3, 4]])
    colors = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9], [250, 251, 252], [0, 0, 255]])
    write_ply(tmp_path / "a.ply", points, colors=colors.to(torch.uint8), faces=faces)
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    assert np.array_equal(mesh.vertices, points)
    assert np.array_equal(mesh.faces, faces)
    assert np.array_equal(mesh.visual.vertex_colors[:, :3], colors)


def test_real_meshes_read_as_another_reader_does(data_root):
    trimesh = pytest.importorskip("trimesh")
    files = [*data_root.glob("rgbd_frames/*.ply"), *data_root.glob("scannet_raw/scans/*/*.ply")]
    if not files:
        pytest.skip("no mesh in the capture data")
    for file in files:
        ply, mesh = read_ply(file), trimesh.load(file, process=False)
        assert np.array_equal(mesh.vertices.astype(np.float32), ply.points)
        assert np.array_equal(mesh.faces, ply.faces)
        assert np.array_equal(mesh.visual.vertex_colors[:, :3], ply.colors)


@pytest.mark.parametrize("form", FORMATS)
def test_colors_may_be_numbers_from_zero_to_one(tmp_path, form):
    rgb = [("float", "red"), ("float", "green"), ("float", "blue")]
    file = tmp_path / "a.ply"
    file.write_bytes(encode(form, [("vertex", XYZ + rgb, [(0.0, 0.0, 0.0, 0.0, 1.0, 0.5)])]))
    assert read_ply(file).colors.tolist() == [[0, 255, 128]]
    file.write_bytes(encode(form, [("vertex", XYZ + rgb, [(0.0, 0.0, 0.0, 0.0, 1.0, 200.0)])]))
    assert read_ply(file).colors.tolist() == [[0, 1, 200]]
    file.write_bytes(encode(form, [("vertex", XYZ + rgb, [(0.0, 0.0, 0.0, 0.0, 1.0, 200.5)])]))
    with pytest.raises(SceneError, match=r"'blue' goes from 200.5 to 200.5, expected .* 0 to 1"):
        read_ply(file)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["ushort", "uint", "int", "float", "double"])
@pytest.mark.parametrize("times", [1, 256, 257])
def test_colors_of_sixteen_bits(tmp_path, form, kind, times):
    rgb = [(kind, "diffuse_red"), (kind, "diffuse_green"), (kind, "diffuse_blue")]
    rows = [(0.0, 0.0, 0.0, *(times * v for v in color)) for color in ((0, 7, 255), (100, 2, 3))]
    file = tmp_path / "a.ply"
    file.write_bytes(encode(form, [("vertex", XYZ + rgb, rows)]))
    assert read_ply(file).colors.tolist() == [[0, 7, 255], [100, 2, 3]]


LYING = {
    "huge": (f"element vertex {10**15}", "declares 1000000000000000 vertex rows"),
    "absurd": (f"element vertex {'9' * 4000}", "vertex rows"),
    "one more": ("element vertex 6", "declares 6 vertex rows|not the numbers"),
    "one less": ("element vertex 4", "follow them"),
    "negative": ("element vertex -5", "has the line 'element vertex -5'"),
    "word": ("element vertex many", "has the line 'element vertex many'"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("lie", LYING)
def test_lying_counts_are_refused_without_allocating(tmp_path, form, lie):
    line, message = LYING[lie]
    honest = encode(form, [("vertex", XYZ, CORNERS)])
    file = tmp_path / "a.ply"
    file.write_bytes(honest.replace(b"element vertex 5", line.encode()))
    tracemalloc.start()
    with pytest.raises(SceneError, match=message) as caught:
        read_ply(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("form", FORMATS[1:])
def test_lying_list_lengths_are_refused_without_allocating(tmp_path, form):
    rows = [((0, 1, 2),), ((1, 2, 3),)]
    elements = [("vertex", XYZ, CORNERS), ("face", [(("uint", "int"), "vertex_indices")], rows)]
    honest = encode(form, elements)
    length = struct.pack(ORDER[form] + "I", 3)
    for lie in (4_000_000_000, 1000, 4):
        broken = honest.replace(length, struct.pack(ORDER[form] + "I", lie), 1)
        file = tmp_path / "a.ply"
        file.write_bytes(broken)
        tracemalloc.start()
        with pytest.raises(SceneError):
            read_ply(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5e6


def test_a_negative_list_length_is_refused(tmp_path):
    body = struct.pack("<3f", 0, 0, 0) + struct.pack("<i", -1) + struct.pack("<i3i", 3, 0, 0, 0)
    header = (
        "ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\n"
        "property float y\nproperty float z\nelement face 2\n"
        "property list int int vertex_indices\nend_header\n"
    )
    (tmp_path / "a.ply").write_bytes(header.encode() + body)
    with pytest.raises(SceneError, match="a list of face has length -1"):
        read_ply(tmp_path / "a.ply")


def test_content_that_is_no_further_row_is_only_warned_of(tmp_path, caplog):
    file = tmp_path / "a.ply"
    file.write_bytes(encode(FORMATS[1], [("vertex", XYZ, CORNERS)]) + b"12345")
    with caplog.at_level(logging.WARNING):
        assert len(read_ply(file).points) == 5
    assert "5 bytes after the last vertex row are ignored" in caplog.text
    caplog.clear()
    file.write_bytes(encode(FORMATS[1], [("vertex", XYZ, CORNERS)]) + b"\n")
    assert len(read_ply(file).points) == 5
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with 'ply'"),
        (b"solid cube", "does not begin with 'ply'"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "no 'end_header' line"),
        (b"ply\n" + b"x" * 3_000_000, "no 'end_header' line"),
        (b"ply\nformat morse 1.0\nend_header\n", "has the line 'format morse 1.0'"),
        (b"ply\nelement vertex 0\nend_header\n", "names no known format"),
        (b"ply\nformat ascii 1.0\nend_header\n", "no vertices with x, y and z"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n1\n",
            "has the line 'property quad x'",
        ),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float x\n",
            "vertex has 'x' twice",
        ),
        (b"ply\nformat ascii 1.0\nelement a 0\nelement a 0\nend_header\n", "declares 'a' twice"),
        (
            encode("ascii", [("vertex", XYZ, [(0, 0, "nought")])]),
            "a vertex row is not the numbers 'x y z'",
        ),
        (
            encode("ascii", [("vertex", [*XYZ, ("uchar", "red")], [(0, 0, 0, 256)])]),
            "'red' has a number that is no uint8",
        ),
        (
            encode(
                "ascii",
                [
                    ("vertex", XYZ, CORNERS),
                    ("face", [(("uchar", "int"), "vertex_indices")], [((0, 1, 5),)]),
                ],
            ),
            "a face uses point 5, the file has points 0 to 4",
        ),
        (
            encode(
                "ascii",
                [
                    ("vertex", XYZ, CORNERS),
                    ("face", [(("uchar", "int"), "corners")], [((0, 1, 2),)]),
                ],
            ),
            "no integer list 'vertex_indices'",
        ),
    ],
)
def test_what_is_no_ply_is_named_with_its_fault(tmp_path, content, message):
    file = tmp_path / "a.ply"
    file.write_bytes(content)
    with pytest.raises(SceneError, match=message) as caught:
        read_ply(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_a_folder_are_said_to_be_so(tmp_path):
    with pytest.raises(SceneError, match=r"none\.ply: cannot be read \(No such file"):
        read_ply(tmp_path / "none.ply")
    with pytest.raises(SceneError, match=r"cannot be read \(Is a directory"):
        read_ply(tmp_path)


MESH = {
    form: encode(
        form,
        [
            ("vertex", [*XYZ, ("uchar", "red"), ("uchar", "green"), ("uchar", "blue")], rows),
            ("face", [(("uchar", "int"), "vertex_indices")], [((0, 1, 2),), ((0, 1, 2, 3),)]),
        ],
    )
    for rows in [[(*corner, 1, 2, 3) for corner in CORNERS]]
    for form in FORMATS
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    form=st.sampled_from(FORMATS),
    cut=st.none() | st.integers(0, 400),
    flips=st.lists(st.tuples(st.integers(0, 500), st.integers(1, 255)), max_size=4),
    inserted=st.binary(max_size=8),
)
def test_damage_ends_in_a_mesh_or_in_one_sentence(tmp_path_factory, form, cut, flips, inserted):
    broken = bytearray(MESH[form])
    for place, bits in flips:
        broken[place % len(broken)] ^= bits
    if flips and inserted:
        broken[flips[0][0] % len(broken) : 0] = inserted
    file = tmp_path_factory.mktemp("ply") / "a.ply"
    file.write_bytes(bytes(broken[:cut]))
    ply, said = None, ""
    try:
        ply = read_ply(file)
    except SceneError as error:
        said = str(error)
    if ply is None:
        assert "\n" not in said
        assert str(file) in said
        return
    assert cut is None or cut >= len(broken) - 1  # the last line break may be missing
    assert ply.faces is None or not len(ply.faces) or int(ply.faces.max()) < len(ply.points)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"colors": torch.zeros(2, 3)}, "colors are torch.float32"),
        ({"colors": torch.zeros(3, 3, dtype=torch.uint8)}, r"colors have shape \(3, 3\)"),
        ({"labels": torch.zeros(2, 2)}, r"labels have shape \(2, 2\)"),
        ({"scalars": {"x": torch.zeros(2)}}, "'x' cannot name a property"),
        ({"scalars": {"a b": torch.zeros(2)}}, "'a b' cannot name"),
        ({"faces": torch.zeros(2, 4)}, r"faces are \(2, 4\)"),
    ],
)
def test_writing_checks_shapes_and_leaves_nothing(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_ply(tmp_path / "a.ply", torch.zeros(2, 3), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_doubles_far_from_the_origin_keep_their_millimetres(tmp_path):
    far = np.random.default_rng(5).uniform(0, 4, (50, 3)) + np.array([451234, 5411876, 118])
    write_ply(tmp_path / "a.ply", torch.from_numpy(far), doubles=True)
    ply = read_ply(tmp_path / "a.ply")
    assert ply.offset.tolist() == np.floor(far.min(axis=0)).tolist()
    # float32 within metres of the origin
    np.testing.assert_allclose(ply.points.double() + ply.offset, far, rtol=0, atol=1e-6)
    beside = read_ply(tmp_path / "a.ply", offset=torch.tensor([451000.0, 5411000.0, 0]).double())
    np.testing.assert_allclose(
        beside.points.double(), far - [451000, 5411000, 0], rtol=0, atol=1e-4
    )


def test_a_byte_order_mark_before_the_header(tmp_path):
    write_ply(tmp_path / "a.ply", torch.ones(3, 3))
    content = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(b"\xef\xbb\xbf" + content)
    assert read_ply(tmp_path / "a.ply").points.tolist() == [[1, 1, 1]] * 3


@pytest.mark.parametrize("form", FORMATS)
def test_triangle_strips_are_cut_into_triangles_of_one_side(tmp_path, form):
    strips = [[0, 1, 2, 3, -1, 4, 0, 1, -1], [2, 3, 3, 0, 4]]
    elements = [
        ("vertex", XYZ, CORNERS),
        ("tristrips", [(("int", "int"), "vertex_indices")], [(strip,) for strip in strips]),
    ]
    (tmp_path / "a.ply").write_bytes(encode(form, elements))
    # (2, 3, 3) and (3, 3, 0) only join strips
    expected = [[0, 1, 2], [2, 1, 3], [4, 0, 1], [3, 0, 4]]
    assert read_ply(tmp_path / "a.ply").faces.tolist() == expected


def test_strips_and_faces_come_together_and_bad_strips_are_refused(tmp_path):
    def write(strip):
        elements = [
            ("vertex", XYZ, CORNERS),
            ("face", [(("uchar", "int"), "vertex_indices")], [([0, 1, 4],)]),
            ("tristrips", [(("int", "int"), "vertex_indices")], [(strip,)]),
        ]
        (tmp_path / "a.ply").write_bytes(encode("ascii", elements))
        return tmp_path / "a.ply"

    assert read_ply(write([1, 2, 3])).faces.tolist() == [[0, 1, 4], [1, 2, 3]]
    with pytest.raises(SceneError, match="a face uses point 5, the file has points 0 to 4"):
        read_ply(write([1, 2, 5]))


@pytest.mark.parametrize("line", ["comment TextureFile room 0.png", "obj_info ok"])
def test_colors_in_a_texture_are_named(tmp_path, caplog, line):
    texture = [(("uchar", "int"), "vertex_indices"), (("uchar", "float"), "texcoord")]
    faces = [([0, 1, 2], [0.0] * 6)]
    content = encode("ascii", [("vertex", XYZ, CORNERS), ("face", texture, faces)])
    (tmp_path / "a.ply").write_bytes(content.replace(b"comment made by hand", line.encode()))
    with caplog.at_level(logging.WARNING):
        assert read_ply(tmp_path / "a.ply").colors is None
    where = "in room 0.png" if "Texture" in line else "in a texture"
    assert f"its colours are {where}, which is not read" in caplog.text


@pytest.mark.parametrize(
    ("comment", "metres"),
    [
        ("units: mm", 0.001),
        ("Unit = Millimeters", 0.001),
        ("unit cm", 0.01),
        ("units are feet", 0.3048),
        ("unit: US survey feet", 1200 / 3937),
        ("length unit: metre", 1.0),
        ("units: metres", 1.0),
        ("units of measure vary", 1.0),
        ("unit: parsec", 1.0),
        ("made by hand", 1.0),
    ],
)
def test_units_in_a_comment_are_honoured(tmp_path, caplog, comment, metres):
    content = encode("binary_big_endian", [("vertex", [("double", a) for a in "xyz"], CORNERS)])
    content = content.replace(b"made by hand", comment.encode())
    (tmp_path / "a.ply").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = read_ply(tmp_path / "a.ply")
    np.testing.assert_allclose(found.points, np.array(CORNERS) * metres, rtol=1e-6)
    assert found.metres_per_unit == (metres, metres, metres)
    assert ("its unit 'parsec' is not known" in caplog.text) == ("parsec" in comment)


VIEWS = [*XYZ, (("uchar", "uint"), "view_indices"), ("short", "n"), (("int", "float"), "weights")]


def uneven_rows(count, seed=0):
    """Points with a list of views and one of weights, of different lengths; some are empty."""
    rng = np.random.default_rng(seed)
    return [
        (
            *rng.integers(-9, 9, 3).astype(float),
            rng.integers(0, 2**32, rng.integers(0, 6)).tolist(),
            int(rng.integers(-(2**15), 2**15)),
            rng.integers(0, 99, rng.integers(0, 4)).astype(float).tolist(),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_uneven_lists_give_what_was_written(tmp_path, form):
    rows = uneven_rows(200)
    faces = [([0, 1, 2],), ([3, 4, 5, 6],), ([7, 8, 9],)]
    elements = [("vertex", VIEWS, rows), ("face", [(("ushort", "int"), "vertex_index")], faces)]
    (tmp_path / "a.ply").write_bytes(encode(form, elements))
    with (tmp_path / "a.ply").open("rb") as stream:
        vertex = read_tables(tmp_path / "a.ply", stream).tables["vertex"]
    for column, name in ((3, "view_indices"), (5, "weights")):
        assert vertex[name].lengths.tolist() == [len(row[column]) for row in rows]
        assert vertex[name].values.tolist() == [v for row in rows for v in row[column]]
    assert vertex["n"].tolist() == [row[4] for row in rows]
    ply = read_ply(tmp_path / "a.ply")
    assert ply.points.tolist() == [list(row[:3]) for row in rows]
    assert ply.faces.tolist() == [[0, 1, 2], [3, 4, 5], [3, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize("form", FORMATS)
def test_uneven_lists_that_end_early_are_refused(tmp_path, form):
    content = encode(form, [("vertex", VIEWS, uneven_rows(20))])
    header = content.index(b"end_header\n") + 11
    for end in (len(content) - 40, header + 200, header + 90):
        (tmp_path / "a.ply").write_bytes(content[:end])
        with pytest.raises(SceneError, match="truncated"):
            read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "row", ["1 2 3 2 7 0 0", "1 2 3 1 7 0 -1", "1 2 3 0.5 0 0", "1 2 3 x 0 0", "1 2 3 nan 0 0", ""]
)
def test_uneven_text_that_does_not_fit_its_header_is_refused(tmp_path, row):
    content = encode("ascii", [("vertex", VIEWS, uneven_rows(3))]).decode()
    content = content.replace("vertex 3", "vertex 4") + row + "\n" + " " * 30
    (tmp_path / "a.ply").write_text(content)
    with pytest.raises(SceneError, match="a vertex row is not the numbers"):
        read_ply(tmp_path / "a.ply")


@pytest.mark.parametrize(("form", "times"), [("binary_little_endian", 4), ("ascii", 10)])
def test_uneven_lists_cost_memory_like_the_file(tmp_path, form, times):
    file = tmp_path / "a.ply"
    file.write_bytes(encode(form, [("vertex", VIEWS, uneven_rows(100) * 300)]))
    read_ply(file)  # what is compiled and kept is no part of it
    tracemalloc.start()
    read_ply(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < times * file.stat().st_size


def test_colors_of_faces_are_named(tmp_path, caplog):
    rgb = [("uchar", name) for name in ("red", "green", "blue")]
    face = [(("uchar", "int"), "vertex_indices"), *rgb]
    content = encode("ascii", [("vertex", XYZ, CORNERS), ("face", face, [([0, 1, 2], 9, 8, 7)])])
    (tmp_path / "a.ply").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert read_ply(tmp_path / "a.ply").colors is None
    assert "its colours are of faces, which are not read" in caplog.text
