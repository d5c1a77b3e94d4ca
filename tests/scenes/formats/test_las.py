"""LAS and LAZ files that laspy wrote, read chunk by chunk."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from pcdistill.errors import SceneError
from pcdistill.scenes import open_scene
from pcdistill.scenes.formats import las as las_module
from pcdistill.scenes.formats.las import read_las
from pcdistill.scenes.formats.laz_chunks import panics_as_errors
from pcdistill.scenes.source_frame import source_coordinates

laspy = pytest.importorskip("laspy", reason="laspy is not installed (extra las)")


def write(
    file,
    points,
    colors=None,
    *,
    version="1.4",
    scale=0.001,
    offset=(0.0, 0.0, 0.0),
    records=(),
    **more,
):
    """Points, 16-bit colours and more fields in a file of this version; records (number, bytes)."""
    header = laspy.LasHeader(point_format=7 if version == "1.4" else 2, version=version)
    header.scales = np.broadcast_to(scale, 3).astype(float)
    header.offsets = np.array(offset)
    for number, data in records:
        header.vlrs.append(laspy.VLR("LASF_Projection", number, record_data=data))
    content = laspy.LasData(header)
    content.x, content.y, content.z = np.asarray(points, dtype=np.float64).T
    if colors is not None:
        content.red, content.green, content.blue = np.asarray(colors, dtype=np.uint16).T
    for name, values in more.items():
        content[name] = values
    content.write(str(file))
    return file


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-4, 4, (2500, 3)).round(3)


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("chunk", [1000, 2500, 10_000])
def test_points_and_colors_are_those_that_were_written(
    tmp_path, monkeypatch, points, suffix, version, chunk
):
    monkeypatch.setattr(las_module, "_CHUNK", chunk)
    colors = np.random.default_rng(1).integers(0, 65536, (2500, 3))
    file = write(tmp_path / f"a.{suffix}", points, colors, version=version)
    surface = read_las(file)
    assert surface.offset.tolist() == [0.0, 0.0, 0.0]
    assert str(surface.points.dtype) == "torch.float32"
    # float32 at a few metres
    np.testing.assert_allclose(surface.points, points, atol=1e-6)
    np.testing.assert_array_equal(surface.colors, colors >> 8)


def test_a_survey_is_moved_by_whole_metres_and_keeps_its_millimetres(tmp_path, points):
    far = np.array([687_000.25, 5_334_000.5, 512.0])
    file = write(tmp_path / "a.laz", points + far, offset=far)
    surface = read_las(file)
    assert surface.offset.tolist() == np.floor((points + far).min(axis=0)).tolist()
    found = surface.points.double().numpy() + surface.offset.numpy()
    # stored in whole millimetres: half of one
    np.testing.assert_allclose(found, points + far, atol=6e-4)


def test_colors_of_eight_bits_are_taken_as_they_are(tmp_path, points):
    colors = np.tile([0, 100, 255], (2500, 1))
    surface = read_las(write(tmp_path / "a.las", points, colors))
    assert surface.colors[7].tolist() == [0, 100, 255]


def test_dark_beginnings_of_sixteen_bits_are_dark(tmp_path, monkeypatch, points):
    monkeypatch.setattr(las_module, "_CHUNK", 1000)
    colors = np.full((2500, 3), 200)
    colors[2000:] = 60_000
    surface = read_las(write(tmp_path / "a.las", points, colors))
    np.testing.assert_array_equal(surface.colors, colors >> 8)


def test_memory_is_that_of_the_result_and_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(las_module, "_CHUNK", 1000)
    count = 200_000
    points = np.random.default_rng(0).uniform(-4, 4, (count, 3))
    file = write(tmp_path / "a.las", points, np.full((count, 3), 60_000))
    read_las(file)  # what is imported and kept is no part of it
    tracemalloc.start()
    read_las(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count * 15 < peak < count * 15 + 500_000


def test_a_file_without_points(tmp_path):
    surface = read_las(write(tmp_path / "a.las", np.zeros((0, 3))))
    assert len(surface.points) == 0
    assert surface.offset.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_truncated_file_is_one_sentence(tmp_path, points, suffix):
    file = write(tmp_path / f"a.{suffix}", points)
    content = file.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 400):
        file.write_bytes(content[:length])
        with pytest.raises(SceneError, match=r"damaged, export it again") as caught:
            read_las(file)
        assert "\n" not in str(caught.value)


def test_a_scale_that_cannot_be_is_refused(tmp_path, points):
    file = write(tmp_path / "a.las", points)
    content = bytearray(file.read_bytes())
    for scale in (1e300, float("nan"), float("inf")):
        content[131:139] = np.float64(scale).tobytes()
        file.write_bytes(content)
        with pytest.raises(SceneError, match="its header places points at"):
            read_las(file)


@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize("chunk", [700, 10_000])
def test_withheld_points_and_noise_are_left_out_and_counted(
    tmp_path, monkeypatch, points, version, chunk, caplog
):
    monkeypatch.setattr(las_module, "_CHUNK", chunk)
    number = np.arange(2500)
    colors = np.stack([number, number + 1, number + 2], axis=1) * 20
    classes = np.select([number % 11 == 0, number % 13 == 0, number % 17 == 0], [7, 18, 12], 2)
    withheld = (number % 5 == 0).astype(np.uint8)
    file = write(
        *(tmp_path / "a.las", points, colors),
        version=version,
        classification=classes.astype(np.uint8),
        withheld=withheld,
        synthetic=(number % 3 == 0).astype(np.uint8),
        key_point=(number % 7 == 0).astype(np.uint8),
    )
    with caplog.at_level("WARNING"):
        surface = read_las(file)
    noise = np.isin(classes, [7, 18]) & (withheld == 0)
    kept = ~noise & (withheld == 0)
    np.testing.assert_allclose(surface.points, points[kept], atol=1e-6)
    np.testing.assert_array_equal(surface.colors, colors[kept] >> 8)
    counts = {las_module.WITHHELD: 500, las_module.NOISE: int(noise.sum())}
    assert surface.left_out == counts
    assert f"left out of 2500 points: 500 {las_module.WITHHELD}" in caplog.text


def test_a_file_of_noise_alone_says_so(tmp_path, points):
    file = write(tmp_path / "a.las", points, classification=np.full(2500, 7, np.uint8))
    with pytest.raises(SceneError, match="all of its points are left out: 2500 class"):
        open_scene(file)


@pytest.mark.parametrize("times", [256, 257])
def test_bytes_in_sixteen_bits_come_back_whoever_widened_them(tmp_path, points, times):
    colors = np.random.default_rng(1).integers(0, 256, (2500, 3))
    surface = read_las(write(tmp_path / "a.las", points, colors * times))
    np.testing.assert_array_equal(surface.colors, colors)


@pytest.mark.parametrize("color", [None, 0, 255, 65535])
def test_colors_that_are_all_the_same_are_none(tmp_path, points, color):
    colors = None if color is None else np.full((2500, 3), color)
    assert open_scene(write(tmp_path / "a.las", points, colors)).colors is None


def geokeys(*keys):
    """GeoKeyDirectoryTag: (key, place, value) each."""
    rows = [(1, 1, 0, len(keys)), *((key, place, 1, value) for key, place, value in keys)]
    return np.array(rows, dtype="<u2").tobytes()


UTM_WKT = (
    'PROJCS["WGS 84 / UTM 32N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["false_easting",500000],UNIT["metre",1],AXIS["Easting",EAST]]'
)
FEET_WKT = UTM_WKT.replace('UNIT["metre",1]', 'UNIT["US survey foot",0.304800609601219]')
COMPOUND_WKT = f'COMPD_CS["both",{FEET_WKT},VERT_CS["NAVD88",VERT_DATUM["x",2005],UNIT["metre",1]]]'
FEET_WKT2 = (
    'PROJCRS["x",BASEGEOGCRS["y",DATUM["z",ELLIPSOID["w",6378137,298,LENGTHUNIT["metre",1]]]],'
    'CONVERSION["c",METHOD["m"],PARAMETER["e",1,LENGTHUNIT["metre",1]]],CS[Cartesian,2],'
    'AXIS["(E)",east,ORDER[1],LENGTHUNIT["foot",0.3048]],AXIS["(N)",north,ORDER[2]]]'
)
GEOGRAPHIC_WKT = UTM_WKT[UTM_WKT.index("GEOGCS") : UTM_WKT.index(",PROJECTION")]
GEOCENTRIC_WKT2 = (
    'GEODCRS["WGS 84",DATUM["d",ELLIPSOID["e",6378137,298]],CS[Cartesian,3],'
    'AXIS["(X)",geocentricX],LENGTHUNIT["metre",1]]'
)
FOOT, US_FOOT = 0.3048, 1200 / 3937


@pytest.mark.parametrize(
    ("records", "units"),
    [
        pytest.param([], (1, 1), id="nothing said"),
        pytest.param([(2112, UTM_WKT)], (1, 1), id="UTM"),
        pytest.param([(2112, FEET_WKT)], (US_FOOT, US_FOOT), id="US feet"),
        pytest.param([(2112, COMPOUND_WKT)], (US_FOOT, 1), id="feet and metres"),
        pytest.param([(2112, FEET_WKT2)], (FOOT, FOOT), id="feet, second version"),
        pytest.param(
            [(34735, geokeys((1024, 0, 1), (3072, 0, 32632), (3076, 0, 9001)))],
            *((1, 1),),
            id="metres by keys",
        ),
        pytest.param(
            [(34735, geokeys((1024, 0, 1), (3072, 0, 2263), (3076, 0, 9003)))],
            *((US_FOOT, US_FOOT),),
            id="US feet by keys",
        ),
        pytest.param(
            [(34735, geokeys((1024, 0, 1), (3076, 0, 9002), (4099, 0, 9001)))],
            *((FOOT, 1),),
            id="feet and metres by keys",
        ),
        pytest.param(
            [
                (34735, geokeys((1024, 0, 1), (3076, 0, 32767), (3077, 34736, 1))),
                (34736, np.array([5.0, 0.9144], "<f8").tobytes()),
            ],
            *((0.9144, 0.9144),),
            id="yards of the user",
        ),
    ],
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_units_are_those_that_the_file_states(tmp_path, points, records, units, place):
    records = [(n, data.encode() if isinstance(data, str) else data) for n, data in records]
    far = np.array([451234.0, 5411876.0, 118.0])
    file = tmp_path / "a.las"
    write(file, points + far, offset=far, records=records if place == "before" else ())
    if place == "after":
        append_records(file, records)
    length = np.array([units[0], units[0], units[1]])
    surface = read_las(file)
    found = surface.points.double().numpy() + surface.offset.numpy()
    np.testing.assert_allclose(found, (points + far) * length, rtol=0, atol=1e-6)
    np.testing.assert_allclose(surface.metres_per_unit, length, rtol=1e-9)
    scene = open_scene(file, up_axis="y")
    np.testing.assert_allclose(source_coordinates(scene), points + far, rtol=0, atol=2e-5)


def append_records(file, records):
    """Put the records after the points, as version 1.4 may."""
    content = bytearray(file.read_bytes())
    start = len(content)
    for number, data in records:
        head = struct.pack("<H16sHQ32s", 0, b"LASF_Projection", number, len(data), b"")
        content += head + data
    struct.pack_into("<QI", content, 235, start, len(records))
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ((2112, GEOGRAPHIC_WKT.encode()), "are longitude and latitude .WGS 84."),
        ((2112, GEOCENTRIC_WKT2.encode()), "counted from the centre of the Earth"),
        ((34735, geokeys((1024, 0, 2), (2048, 0, 4326))), "longitude and latitude .EPSG 4326."),
        ((34735, geokeys((2048, 0, 4326))), "longitude and latitude"),
        ((34735, geokeys((1024, 0, 3))), "counted from the centre of the Earth"),
        ((34735, geokeys((1024, 0, 1), (3076, 0, 9101))), "in the unit EPSG 9101"),
    ],
)
def test_what_is_no_length_in_a_plane_is_refused(tmp_path, points, record, words):
    with pytest.raises(SceneError, match=words) as caught:
        read_las(write(tmp_path / "a.las", points, records=[record]))
    assert "a.las: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        (2112, b"no brackets"),
        (2112, b"PROJCS[[[["),
        (2112, b"\xff" * 500),
        (2112, b""),
        (2112, b"A[" * 4000 + b"]" * 4000),
        (34735, b"\1"),
        (34735, geokeys((3076, 34736, 40000))),
        (34735, geokeys((1024, 0, 1), (3072, 0, 2263))),
    ],
)
def test_a_coordinate_system_that_cannot_be_read_is_named_and_taken_as_metres(
    tmp_path, points, record, caplog
):
    with caplog.at_level("WARNING"):
        surface = read_las(write(tmp_path / "a.las", points, records=[record]))
    np.testing.assert_allclose(surface.points, points, atol=1e-6)
    assert "taken as metres" in caplog.text or record[1] in (b"\1", b"")


def test_steps_of_degrees_are_refused_though_nothing_states_them(tmp_path, points):
    with pytest.raises(SceneError, match="in steps of 1e-07 and 0.001 in height"):
        read_las(write(tmp_path / "a.las", points, scale=(1e-7, 1e-7, 1e-3)))


DAMAGE = {  # of a LAZ file: where, from the beginning of a part of it -> bytes there
    "chunks": ("table", 4, b"\xff\xff\xff\x7f", r"\d+ chunks in \d+ bytes"),
    "table": ("points", 0, b"\0\0\0\x10\0\0\0\0", r"the table of chunks at byte \d+ of \d+"),
    "table before": ("points", 0, bytes(8), "the table of chunks at byte 0 of"),
    "layers": ("points", 8 + 36 + 4, b"\xff\xff\xff\xb0", r"layers of \d{10} bytes in a chunk of"),
    "points of a chunk": (
        "record",
        12,
        b"\0\0\0\x7f",
        "a chunk of 2130706432 points, the",
    ),
    "no points": ("record", 12, bytes(4), "chunks of 0 points of 36 bytes"),
    "size of a point": ("record", 36, b"\0\0", "points of 6 bytes"),
    "record": ("record", -40, b"x", "no record of LASzip"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_laz_file_that_promises_too_much_is_refused_before_the_package_takes_memory(
    tmp_path, points, kind
):
    """It ends the whole process where there is not as much."""
    file = write(tmp_path / "a.laz", points, np.full((len(points), 3), 3000))
    assert len(read_las(file).points) == len(points)
    content = bytearray(file.read_bytes())
    start = int.from_bytes(content[96:100], "little")
    places = {
        "points": start,
        "table": int.from_bytes(content[start : start + 8], "little"),
        "record": content.index(b"laszip encoded") - 2 + 54,
    }
    part, offset, damage, said = DAMAGE[kind]
    place = places[part] + offset
    content[place : place + len(damage)] = damage
    file.write_bytes(content)
    with pytest.raises(SceneError, match=f"cannot be read .*{said}.*; it is damaged, export it ag"):
        read_las(file)


def test_what_rust_calls_a_panic_is_an_error():
    class PanicException(BaseException):
        pass

    with pytest.raises(ValueError, match="divisor of zero"), panics_as_errors():
        raise PanicException("divisor of zero")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt
