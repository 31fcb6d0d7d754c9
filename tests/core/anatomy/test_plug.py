from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemark_cli.core.anatomy.ends import Judgement
from tidemark_cli.core.anatomy.plug import Plug, crop_box, find_plug, find_plugs
from tidemark_cli.core.errors import ContentError
from tidemark_cli.core.phantoms.phantom import draw_phantom

UM = 50.0  # a plug of 1.8 mm is 36 voxels wide
SHAPE = (66, 54, 48)
CENTRE = (29, 23)  # of the plug in (Y, X)
RADIUS = 17
BOTTOM, TIDE, TOP = 5, 27, 57  # bone from 5 to 27, cartilage to 57


def draw(cavities: bool = True, crest: float = 0.0) -> np.ndarray:
    """Return a cylinder (Z, Y, X) float, bone first: air 0, cartilage 100, bone 110, marrow 5."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = (y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 <= RADIUS**2
    scan = np.where(inside & (z >= BOTTOM) & (z < TOP), np.where(z < TIDE, 110.0, 100.0), 0.0)
    if cavities:
        for cz, cy, cx in [
            (15, 40, 30),
            (20, 60, 40),
            (14, 50, 55),
            (24, 35, 45),
            (12, 62, 25),
            (28, 52, 22),
        ]:
            scan[((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < 7**2) & inside] = 5
    if crest:
        scan += np.where(inside & (z >= TIDE) & (z < TOP), crest * np.exp(-(z - TIDE) / 9), 0)
    return scan


def noisy(scan: np.ndarray, sd: float = 5.0) -> np.ndarray:
    return scan + np.random.default_rng(0).normal(0, sd, scan.shape)


def assert_boxed(plug: Plug, sides: list[tuple[int, int]], slack: int = 3) -> None:
    """The box holds the sides (first and last voxel + 1) and a margin of about 100 µm."""
    margin = 100 / UM
    for side, (start, stop) in zip(plug.box, sides, strict=True):
        assert start - margin - slack <= side.start <= start
        assert stop <= side.stop <= stop + margin + slack


SIDES = [
    (BOTTOM, TOP),
    (CENTRE[0] - RADIUS, CENTRE[0] + RADIUS + 1),
    (CENTRE[1] - RADIUS, CENTRE[1] + RADIUS + 1),
]


def test_plug_is_boxed_and_its_bone_end_told() -> None:
    plug = find_plug(noisy(draw()), UM)
    assert_boxed(plug, SIDES)
    assert plug.bone.end == "first"
    assert plug.bone.confidence > 0.4
    assert 20 < plug.tissue_level < 80
    assert plug.centre_yx == pytest.approx((CENTRE[0] + 0.5, CENTRE[1] + 0.5), abs=1.5)


def test_a_second_plug_is_a_rival_and_debris_is_none() -> None:
    plug = draw()
    assert find_plug(noisy(plug), UM).rival == 0
    two = np.concatenate([plug, plug[:, :, ::-1]], axis=2)  # side by side, 11 voxels apart
    found = find_plug(noisy(two), UM)
    assert found.rival > 0.9
    assert found.box[2].stop - found.box[2].start < SHAPE[2] + 3  # one of them, not both
    half = two.copy()
    half[30:, :, SHAPE[2] :] = 0
    assert 0.2 < find_plug(noisy(half), UM).rival < 0.8


def test_several_plugs_come_in_the_order_in_which_they_lie() -> None:
    plug = draw()
    assert len(find_plugs(noisy(plug), UM)) == 1
    left, right = find_plugs(noisy(np.concatenate([plug[:, :, ::-1], plug], axis=2)), UM)
    assert left.box[2].stop <= right.box[2].start + 12 and right.box[2].stop > SHAPE[2]  # margins may meet
    assert not (left.outline & right.outline).any()
    low, high = find_plugs(noisy(np.concatenate([plug[::-1], plug])), UM)
    assert low.box[0].start < SHAPE[0] < high.box[0].stop
    assert (low.bone.end, high.bone.end) == ("last", "first")


def test_flipped_scan_gives_the_flipped_plug() -> None:
    scan = noisy(draw())
    plug, flipped = find_plug(scan, UM), find_plug(scan[::-1], UM)
    assert flipped.bone.end == "last"
    assert flipped.box[1:] == plug.box[1:]
    assert abs(flipped.box[0].start - (SHAPE[0] - plug.box[0].stop)) <= 2
    assert flipped.bone.confidence == pytest.approx(plug.bone.confidence, abs=0.05)


@settings(max_examples=8, deadline=None)
@given(gain=st.floats(1, 200), offset=st.integers(0, 30000), dtype=st.sampled_from(["u2", "i4", "f4", "f8"]))
def test_grey_scale_does_not_matter(gain: float, offset: int, dtype: str) -> None:
    scan = (noisy(draw()).clip(0, 150) * gain + offset).astype(dtype)
    plug = find_plug(scan, UM)
    assert plug.bone.end == "first"
    assert_boxed(plug, SIDES)
    assert offset + 20 * gain < plug.tissue_level < offset + 80 * gain


def test_solid_plug_is_told_by_the_fall_below_the_crest() -> None:
    scan = noisy(draw(cavities=False, crest=70))
    assert find_plug(scan, UM).bone.end == "first"
    assert find_plug(scan[::-1], UM).bone.end == "last"


def test_without_evidence_it_still_decides_and_says_so() -> None:
    scan = np.where(draw(cavities=False) > 0, 100.0, 0.0)
    plug = find_plug(noisy(scan), UM)
    assert plug.bone.end in ("first", "last")
    assert plug.bone.confidence < 0.2


def test_told_bone_end_is_taken() -> None:
    plug = find_plug(noisy(draw()), UM, "last")
    assert plug.bone == Judgement("last", 1.0)


def test_wax_parafilm_rings_and_debris_are_left_out() -> None:
    scan = draw()
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    out = scan == 0
    radius = np.hypot(y - SHAPE[1] / 2, x - SHAPE[2] / 2)
    scan[(z > 60) & out & (radius < 24)] = 25  # wax above
    scan[np.broadcast_to(abs(radius - 23.5) < 0.4, scan.shape) & out & (z > 12)] = 90  # parafilm
    scan += np.where(radius.astype(int) % 6 == 0, 6, 0)  # rings
    scan[30:32, 2:4, 2:4] = 250  # debris
    plug = find_plug(noisy(scan), UM)
    assert_boxed(plug, SIDES)
    assert plug.bone.end == "first"


def test_plug_that_fills_the_field() -> None:
    scan = noisy(draw())[:48, 18:40, 12:34]
    plug = find_plug(scan, UM)
    assert plug.box[1:] == (slice(0, 22), slice(0, 22))
    assert plug.bone.end == "first"


def test_scan_without_any_background_is_all_plug() -> None:
    rows = np.linspace(80, 160, 60)[:, None, None]
    scan = noisy(np.broadcast_to(rows, (60, 50, 50)))
    plug = find_plug(scan, UM)
    assert plug.box == (slice(0, 60), slice(0, 50), slice(0, 50))
    assert plug.tissue_level < scan.min() + 20


def test_bright_bone_does_not_hide_the_cartilage() -> None:
    scan = draw()  # as CA4+ shows it: bone at 250, cartilage at 75
    scan[scan == 110], scan[scan == 100] = 250, 75
    plug = find_plug(noisy(scan), UM)
    assert_boxed(plug, SIDES)
    assert plug.tissue_level < 60
    assert plug.bone.end == "first"


def test_dark_corners_outside_a_round_field_are_no_class_of_their_own() -> None:
    scan = noisy(draw() + 9000 / 80, 2) * 80
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    scan[:, np.hypot((y - 26.5) / 27, (x - 23.5) / 24) > 1] = 0
    plug = find_plug(scan.astype(np.uint16), UM)
    assert_boxed(plug, SIDES)
    assert 9500 < plug.tissue_level < 16000


def test_the_outline_is_the_plug_with_its_cavities() -> None:
    plug = find_plug(noisy(draw()), UM)
    whole = replace(plug, box=tuple(slice(0, n) for n in SHAPE)).outline_view()
    assert np.array_equal(whole, plug.outline)  # type: ignore[arg-type]
    z, y, x = np.ogrid[BOTTOM:TOP, : SHAPE[1], : SHAPE[2]]
    truth = ((y - CENTRE[0]) ** 2 + (x - CENTRE[1]) ** 2 <= RADIUS**2) & (z >= 0)
    inner = replace(plug, box=(slice(BOTTOM, TOP), *(slice(0, n) for n in SHAPE[1:]))).outline_view()
    assert inner is not None
    assert np.mean(inner == truth) > 0.97


def test_the_outline_in_a_box_of_a_finer_scan() -> None:
    coarse = np.zeros((2, 4, 4), bool)
    coarse[1, 2, 1:] = True
    plug = Plug((slice(0, 20),) * 3, Judgement("first"), 50.0, outline=coarse, cell=(10.0, 10.0, 10.0))
    part = replace(plug, box=(slice(9, 20), slice(20, 40), slice(0, 20))).outline_view()
    assert part is not None
    assert part.astype(int).tolist() == [[[0, 1], [0, 0]]]
    assert Plug(plug.box, Judgement("first"), 50.0).outline_view() is None


def test_single_slice() -> None:
    image = noisy(draw(crest=70))[:, CENTRE[0] : CENTRE[0] + 1]
    plug = find_plug(image, UM)
    assert plug.box[1] == slice(0, 1)
    assert plug.bone.end == "first"
    assert_boxed(plug, [SIDES[0], (0, 1), SIDES[2]])


def test_memory_map_is_read(tmp_path) -> None:
    scan = noisy(draw()).clip(0, 255).astype(np.uint8)
    scan.tofile(tmp_path / "scan.raw")
    mapped = np.memmap(tmp_path / "scan.raw", np.uint8, "r", shape=scan.shape)
    assert find_plug(mapped, UM) == find_plug(scan, UM)


def test_phantom_either_way_up() -> None:
    scan = draw_phantom(1, shape=(120, 72, 72), voxel_um=20.0).scan
    assert find_plug(scan, 20.0).bone.end == "first"
    assert find_plug(scan[::-1], 20.0).bone.end == "last"


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        (np.zeros((0, 5, 5)), "shape"),
        (np.zeros((5, 5)), "shape"),
        (np.full((20, 20, 20), 7), "constant"),
        (np.full((20, 20, 20), np.nan), "NaN"),
        (np.random.default_rng(0).normal(100, 9, (40, 40, 40)), "noise"),
    ],
)
def test_what_cannot_be_a_plug_is_refused(scan: np.ndarray, words: str) -> None:
    with pytest.raises(ContentError, match=words):
        find_plug(scan, UM)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="bone_end"):
        find_plug(draw(), UM, "top")
    with pytest.raises(ContentError, match="voxel size"):
        find_plug(draw(), 0.0)


def plug_at(z: slice, bone_end: str, centre: tuple[float, float] | None) -> Plug:
    box = (z, slice(100, 300), slice(50, 450))
    return Plug(box, Judgement(bone_end), 50.0, centre)  # type: ignore[arg-type]


def test_crop_starts_at_the_bone_end() -> None:
    shape = (1500, 1000, 1000)
    first = crop_box(shape, plug_at(slice(40, 1400), "first", (400.0, 500.0)))
    assert first == (slice(40, 808), slice(176, 624), slice(276, 724))
    last = crop_box(shape, plug_at(slice(40, 1400), "last", (400.0, 500.0)))
    assert last == (slice(632, 1400), slice(176, 624), slice(276, 724))


def test_crop_is_moved_inside_and_clipped() -> None:
    crop = crop_box((500, 460, 300), plug_at(slice(0, 500), "last", None))
    assert crop == (slice(0, 500), slice(0, 448), slice(0, 300))
    with pytest.raises(ValueError, match="at least one voxel"):
        crop_box((5, 5, 5), plug_at(slice(0, 5), "first", None), (0, 4, 4))


@given(
    shape=st.tuples(*[st.integers(1, 900)] * 3),
    size=st.tuples(*[st.integers(1, 900)] * 3),
    centre=st.none() | st.tuples(st.floats(0, 900), st.floats(0, 900)),
    bone_end=st.sampled_from(["first", "last"]),
)
def test_crop_is_never_empty_and_never_outside(shape, size, centre, bone_end) -> None:
    for side, length, wanted in zip(
        crop_box(shape, plug_at(slice(0, shape[0]), bone_end, centre), size), shape, size, strict=True
    ):
        assert 0 <= side.start < side.stop <= length
        assert side.stop - side.start == min(wanted, length)


def test_the_view_is_the_box_bone_first_and_no_copy() -> None:
    outline = np.arange(10)[:, None, None] % 3 == np.zeros((1, 1, 1), int)
    for end, slices, below in (("first", range(2, 9), 2), ("last", range(8, 1, -1), 1)):
        scan = np.arange(10)[:, None, None] + np.zeros((1, 400, 500), int)
        plug = replace(plug_at(slice(2, 9), end, None), outline=outline, cell=(1.0, 400.0, 500.0))
        view = plug.view(scan)
        assert view.shape == (7, 200, 400)
        assert view[:, 5, 7].tolist() == list(slices)
        assert plug.below(len(scan)) == below  # slices between the view and the bone end of the scan
        assert np.array_equal(plug.upright(view), scan[plug.box])
        assert plug.outline_view()[:, 0, 0].tolist() == [z % 3 == 0 for z in slices]
        view[0] = -1
        assert scan[slices[0], 100, 50] == -1 and scan[slices[0], 99, 50] == slices[0]


def test_a_turned_plug_has_its_bone_at_the_other_end_and_is_centred_there() -> None:
    plug = replace(plug_at(slice(0, 9), "first", (200.0, 210.0)), far_centre_yx=(220.0, 230.0))
    turned = plug.turned()
    assert (turned.bone.end, turned.centre_yx, turned.far_centre_yx) == (
        "last",
        (220.0, 230.0),
        (200.0, 210.0),
    )
    assert turned.turned() == plug
