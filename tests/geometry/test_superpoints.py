"""Superpoints: reference parity, a plain transcription of the rule, and its invariances."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pcdistill.geometry import (
    estimate_normals,
    mesh_superpoints,
    point_superpoints,
    vertex_normals,
    weld_faces,
)
from tests.conftest import golden_cases, load_npz
from tests.fixtures.surfaces import (
    adjusted_rand_index,
    bumpy_sheet,
    random_rotation,
    same_partition,
)

AGREEMENT = 0.999  # adjusted Rand index that the fixtures ask for


def reference_labels(arrays):
    """(settings, labels) of each segmentation in a fixture; settings are in the name."""
    for key in arrays:
        if match := re.fullmatch(r"labels_.*?k([\d.]+)_m(\d+)", key):
            yield {"threshold": float(match[1]), "min_size": int(match[2])}, arrays[key]


@pytest.mark.parametrize("file", golden_cases("superpoint/mesh*.npz"))
def test_mesh_superpoints_equal_the_reference(file):
    arrays = load_npz(file)
    vertices, faces = torch.from_numpy(arrays["vertices"]), torch.from_numpy(arrays["faces"])
    for options, labels in reference_labels(arrays):
        result = mesh_superpoints(vertices, faces, **options).numpy()
        assert adjusted_rand_index(result, labels) >= AGREEMENT, options
        assert result.max() == labels.max(), options


@pytest.mark.parametrize("file", golden_cases("superpoint/points*.npz"))
def test_point_superpoints_equal_the_reference(file):
    arrays = load_npz(file)
    points, normals = torch.from_numpy(arrays["points"]), torch.from_numpy(arrays["normals"])
    edges = torch.from_numpy(arrays["edges"])
    for options, labels in reference_labels(arrays):
        result = point_superpoints(points, normals, edges=edges, **options).numpy()
        assert adjusted_rand_index(result, labels) >= AGREEMENT, options
        assert result.max() == labels.max(), options


def plain_segmentation(points, normals, edges, threshold, min_size):
    """The rule of the module's docstring, one edge at a time on lists of members."""
    weighted = []
    for a, b in edges:
        weight = 1 - normals[a] @ normals[b]
        direction = points[b] - points[a]
        if np.linalg.norm(direction) > 0 and normals[b] @ direction > 0:
            weight = weight**2
        weighted.append((weight, a, b))
    weighted.sort(key=lambda edge: edge[0])
    members = {point: {point} for point in range(len(points))}
    limit = dict.fromkeys(members, threshold)
    home = list(range(len(points)))

    def join(a, b):
        for point in members[b]:
            home[point] = a
        members[a] |= members.pop(b)

    for weight, a, b in weighted:
        a, b = home[a], home[b]
        if a != b and weight <= limit[a] and weight <= limit[b]:
            join(a, b)
            limit[a] = weight + threshold / len(members[a])
    for _, a, b in weighted:
        a, b = home[a], home[b]
        if a != b and min(len(members[a]), len(members[b])) < min_size:
            join(a, b)
    return np.array(home)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 60),
    degree=st.integers(0, 4),
    threshold=st.sampled_from([0.01, 0.1, 1.0]),
    min_size=st.sampled_from([1, 3, 10]),
)
def test_any_graph_is_cut_by_the_plain_rule(seed, count, degree, threshold, min_size):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(count, 3))
    normals = generator.normal(size=(count, 3)) * 0.3 + [0, 0, 1]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    edges = generator.integers(0, count, size=(count * degree, 2))
    result = point_superpoints(
        torch.from_numpy(points),
        torch.from_numpy(normals),
        edges=torch.from_numpy(edges),
        threshold=threshold,
        min_size=min_size,
    ).numpy()
    expected = plain_segmentation(points, normals, edges, threshold, min_size)
    assert same_partition(result, expected)


def plain_mesh_normals(vertices, faces):
    """Plain mean of the unit normals of the adjacent faces: what the running mean amounts to."""
    total = np.zeros_like(vertices)
    count = np.zeros(len(vertices))
    for face in faces:
        a, b, c = vertices[face]
        normal = np.cross(b - a, c - a)
        total[face] += normal / np.linalg.norm(normal)
        count[face] += 1
    return total / np.maximum(count, 1)[:, None]


@pytest.mark.parametrize("min_size", [1, 8, 60])
def test_a_mesh_is_cut_by_the_plain_rule(min_size):
    sheet, triangles = bumpy_sheet(14, 20, seed=2)
    vertices, faces = sheet.double(), triangles.numpy()
    edges = np.concatenate([[(a, b), (a, c), (c, b)] for a, b, c in faces])
    normals = plain_mesh_normals(vertices.numpy(), faces)
    expected = plain_segmentation(vertices.numpy(), normals, edges, 0.01, min_size)
    result = mesh_superpoints(vertices, triangles, min_size=min_size).numpy()
    assert same_partition(result, expected)


def test_two_sides_of_a_fold_are_two_superpoints():
    vertices, faces = bumpy_sheet(30, 40, seed=0)
    from_mesh = mesh_superpoints(vertices, faces).numpy()
    from_points = point_superpoints(vertices, vertex_normals(vertices, faces)).numpy()
    from_bare_points = point_superpoints(vertices).numpy()
    side = (vertices[:, 0] > 0.4).numpy()
    for labels in (from_mesh, from_points, from_bare_points):
        assert adjusted_rand_index(labels, side) > 0.8
    assert from_mesh.dtype == np.int32


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_renaming_the_vertices_renames_nothing_else(seed):
    vertices, faces = bumpy_sheet(20, 20, seed=seed % 7)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(vertices)))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    before = mesh_superpoints(vertices, faces, min_size=10)
    after = mesh_superpoints(vertices[order], place[faces], min_size=10)
    assert same_partition(before[order].numpy(), after.numpy())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_rigid_motion_changes_nothing(seed):
    generator = np.random.default_rng(seed)
    sheet, faces = bumpy_sheet(20, 20, seed=seed % 7)
    vertices = sheet.double()
    moved = vertices @ torch.from_numpy(random_rotation(generator)).T
    moved = moved + torch.from_numpy(generator.normal(size=3))
    before, after = (mesh_superpoints(cloud, faces, min_size=10) for cloud in (vertices, moved))
    assert torch.equal(before, after)
    normals = estimate_normals(vertices)
    assert adjusted_rand_index(
        point_superpoints(vertices, normals).numpy(), point_superpoints(moved).numpy()
    ) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kept=st.floats(0.05, 1.0),
    min_size=st.sampled_from([1, 5, 40]),
)
def test_superpoints_are_connected_dense_and_not_too_small(seed, kept, min_size):
    generator = np.random.default_rng(seed)
    vertices, faces = bumpy_sheet(15, 15, seed=seed % 5)
    faces = faces[torch.from_numpy(generator.random(len(faces)) < kept)]  # holes and islands
    labels = mesh_superpoints(vertices, faces, min_size=min_size).numpy()
    first_places = [int(np.argmax(labels == label)) for label in range(labels.max() + 1)]
    assert first_places == sorted(first_places)
    assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))
    edges = faces.numpy()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)

    def pieces(pairs):
        graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(labels),) * 2)
        return connected_components(graph, directed=False)[1]

    inside = edges[labels[edges[:, 0]] == labels[edges[:, 1]]]
    assert same_partition(pieces(inside), labels)
    sizes = np.bincount(labels)
    island = pieces(edges)
    for label in np.flatnonzero(sizes < min_size):
        members = labels == label
        assert (island == island[members][0]).sum() == sizes[label]


def test_ids_do_not_depend_on_equal_weights():
    """A perfect plane and a perfect wall: all weights within each are equal."""
    axis = torch.arange(12.0)
    floor = torch.cartesian_prod(axis, axis, torch.zeros(1))
    wall = torch.cartesian_prod(torch.full((1,), -1.0), axis, axis + 1)
    points = torch.cat([floor, wall])
    normals = torch.cat([torch.tensor([[0.0, 0, 1]] * 144), torch.tensor([[1.0, 0, 0]] * 144)])
    labels = point_superpoints(points, normals)
    assert labels.tolist() == [0] * 144 + [1] * 144


def test_degenerate_meshes_stay_whole():
    vertices, faces = bumpy_sheet(20, 20, seed=1)
    plain = mesh_superpoints(vertices, faces)
    flat = torch.tensor([[5, 5, 5], [3, 4, 3]])
    assert same_partition(plain.numpy(), mesh_superpoints(vertices, torch.cat([faces, flat])))
    doubled = torch.cat([vertices, vertices[:1]])  # an unused vertex on top of another
    assert mesh_superpoints(doubled, faces)[-1] == plain.max() + 1
    coincident = point_superpoints(torch.zeros(20, 3), torch.tensor([[0.0, 0, 1]] * 20))
    assert coincident.max() == 0


def test_nothing_and_next_to_nothing():
    no_faces = torch.zeros((0, 3), dtype=torch.int64)
    assert mesh_superpoints(torch.zeros(0, 3), no_faces).shape == (0,)
    assert mesh_superpoints(torch.rand(3, 3), no_faces).tolist() == [0, 1, 2]
    for count in (0, 1, 2, 5):
        labels = point_superpoints(torch.rand(count, 3))
        assert labels.tolist() == [0] * count


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_color_parts_what_normals_do_not(kind):
    """A flat sheet, red on the left and blue on the right."""
    axis = torch.arange(20.0)
    points = torch.cartesian_prod(axis, axis, torch.zeros(1))
    grid = torch.arange(400).reshape(20, 20)
    quads = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    a, b, c, d = (corner.reshape(-1) for corner in quads)
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([a, c, d], 1)])
    left = points[:, 0] < 9.5
    colors = torch.where(left[:, None], torch.tensor([200, 0, 0]), torch.tensor([0, 0, 200]))
    colors = colors.to(torch.uint8) if kind == "uint8" else colors / 255
    up = torch.tensor([[0.0, 0, 1]]).expand(400, 3)
    for with_color in (
        mesh_superpoints(points, faces, colors=colors, color_weight=1.0),
        point_superpoints(points, up, colors=colors, color_weight=1.0),
    ):
        assert same_partition(with_color.numpy(), left.numpy().astype(np.int64))
    for without in (
        mesh_superpoints(points, faces, colors=colors),
        mesh_superpoints(points, faces, color_weight=1.0),
        point_superpoints(points, up, colors=colors, color_weight=1e-4),
    ):
        assert without.max() == 0


def test_bad_colors_are_named():
    points, faces = torch.rand(4, 3), torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match=r"colors has shape \(3, 3\), expected \(4, 3\)"):
        mesh_superpoints(points, faces, colors=points[:3], color_weight=1.0)
    with pytest.raises(ValueError, match="color_weight must be a number >= 0, got -1"):
        point_superpoints(points, color_weight=-1.0)


def test_inputs_stay_as_they_were():
    vertices, faces = bumpy_sheet(6, 6, seed=1)
    copies = vertices.clone(), faces.clone()
    mesh_superpoints(vertices, faces)
    point_superpoints(vertices)
    assert torch.equal(vertices, copies[0])
    assert torch.equal(faces, copies[1])


def test_bad_arguments_are_named():
    points, faces = torch.rand(4, 3), torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match="faces name vertices 0 to 4, expected 0 to 3: faces and"):
        mesh_superpoints(points, torch.tensor([[0, 1, 4]]))
    with pytest.raises(ValueError, match=r"faces has shape \(1, 4\)"):
        mesh_superpoints(points, torch.zeros((1, 4), dtype=torch.int64))
    with pytest.raises(ValueError, match="vertices has 12 non-finite"):
        mesh_superpoints(points * float("nan"), faces)
    with pytest.raises(ValueError, match="threshold must be > 0 and min_size >= 1, got 0 and 60"):
        mesh_superpoints(points, faces, threshold=0)
    with pytest.raises(ValueError, match="edges name points -1 to 2, expected 0 to 3"):
        point_superpoints(points, edges=torch.tensor([[-1, 2]]))
    with pytest.raises(ValueError, match=r"normals has shape \(3, 3\), expected \(4, 3\)"):
        point_superpoints(points, points[:3])
    with pytest.raises(ValueError, match="normals has 12 non-finite"):
        point_superpoints(points, points * float("inf"))
    with pytest.raises(ValueError, match="neighbors must be at least 1, got 0"):
        point_superpoints(points, neighbors=0)


def soup_of(vertices, faces, colors=None):
    """Every corner of every face a vertex of its own; which vertex each was."""
    corners = faces.flatten()
    return vertices[corners], torch.arange(len(corners)).view(-1, 3), corners


@pytest.mark.parametrize("min_size", [1, 10, 60])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_triangle_soup_is_cut_like_the_mesh_whose_faces_share_vertices(min_size, weight):
    vertices, faces = bumpy_sheet(30, 30, seed=4)
    colors = (vertices[:, :1] > 1).repeat(1, 3).float()
    rule = {"min_size": min_size, "color_weight": weight}
    shared = mesh_superpoints(vertices, faces, colors=colors, **rule)
    soup, triangles, corners = soup_of(vertices, faces)
    found = mesh_superpoints(soup, triangles, colors=colors[corners], **rule)
    assert found.dtype == torch.int32
    # ids in the order of the lowest vertex, which the soup has in another order
    assert same_partition(found.numpy(), shared[corners].numpy())
    assert torch.unique_consecutive(found[first_of(found)]).tolist() == list(range(found.max() + 1))


def first_of(ids):
    """Rows at which an id comes for the first time."""
    seen = np.unique(ids.numpy(), return_index=True)[1]
    return torch.from_numpy(np.sort(seen))


def test_vertices_doubled_at_a_seam_do_not_cut():
    vertices, faces = bumpy_sheet(30, 30, seed=4)
    shared = mesh_superpoints(vertices, faces)
    seam = torch.arange(0, len(vertices), 7)
    doubled = torch.cat([vertices, vertices[seam]])
    place = torch.arange(len(vertices))
    place[seam] = len(vertices) + torch.arange(len(seam))
    half = faces.clone()
    half[::2] = place[faces[::2]]
    found = mesh_superpoints(doubled, half)
    used = torch.zeros(len(doubled), dtype=torch.bool)
    used[half] = True
    expected = torch.cat([shared, shared[seam]])
    assert used[: len(vertices)].sum() > len(vertices) - 5
    assert same_partition(found[used].numpy(), expected[used].numpy())


def test_welding_names_the_first_vertex_of_each_place():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    faces = torch.tensor([[3, 4, 2], [5, 2, 4]])  # nothing uses the first two
    assert weld_faces(vertices, faces).tolist() == [[3, 4, 2], [5, 2, 4]]
    used = torch.cat([faces, torch.tensor([[0, 1, 5]])])
    assert weld_faces(vertices, used).tolist() == [[0, 1, 2], [5, 2, 1], [0, 1, 5]]
