from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import SURFACE_Z, draw_plug
from tidemark_cli.core.data.crop import Crop, crop_sample, read_mask_of
from tidemark_cli.core.errors import ContentError, ScanError
from tidemark_cli.core.scans.volume import Volume, read_volume, write_volume

UM = 3.2
SHAPE = (60, 54, 54)
SIZE = (48, 32, 40)  # of the test's crop; the plug is 50 voxels wide and lies in rows 5 to 55


def volume(array: np.ndarray, voxel_um: float = UM) -> Volume:
    return Volume(array, voxel_um, "file", Path("S01_1.tif"), is_image=array.shape[1] == 1)


@pytest.fixture(scope="module")
def plug() -> np.ndarray:
    return draw_plug(SHAPE)


@pytest.fixture(scope="module")
def mask(plug: np.ndarray) -> np.ndarray:
    return (plug > 150).astype(np.uint8) * np.uint8(255)


@pytest.fixture(scope="module")
def crop(plug: np.ndarray, mask: np.ndarray) -> Crop:
    return crop_sample(volume(plug), mask, SIZE)


# -------------------------------------------------------------------------------------------- place


def test_the_crop_is_centred_and_begins_at_the_bone_end(
    crop: Crop, plug: np.ndarray, mask: np.ndarray
) -> None:
    # the plug's margin of 100 µm reaches the first slice; its centre is at 27
    y, x = (slice(27 - side // 2, 27 + side // 2) for side in SIZE[1:])
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    found = [
        np.array_equal(crop.scan, plug[: SIZE[0], y.start + dy : y.stop + dy, x.start + dx : x.stop + dx])
        and np.array_equal(crop.mask, mask[: SIZE[0], y.start + dy : y.stop + dy, x.start + dx : x.stop + dx])
        for dy, dx in shifts
    ]
    assert sum(found) == 1
    assert crop.notes == ()


def test_a_scan_that_lies_the_other_way_gives_the_same_crop(
    crop: Crop, plug: np.ndarray, mask: np.ndarray
) -> None:
    turned = crop_sample(volume(plug[::-1]), mask[::-1], SIZE)
    assert np.array_equal(crop.scan, turned.scan)
    assert np.array_equal(crop.mask, turned.mask)


def test_the_mask_tells_the_bone_end(plug: np.ndarray) -> None:
    solid = np.where(plug > 50, 90, 0).astype(np.uint8)
    at_the_end = np.zeros_like(solid)
    at_the_end[35:55] = (solid[35:55] > 0) * np.uint8(255)
    crop = crop_sample(volume(solid), at_the_end, SIZE)
    assert crop.mask[10].any()
    assert not crop.mask[-1].any()


def test_a_mask_at_the_other_end_is_pointed_out(plug: np.ndarray, mask: np.ndarray) -> None:
    cartilage = ((plug > 50) & (mask == 0)).astype(np.uint8) * np.uint8(255)
    crop = crop_sample(volume(plug), cartilage, SIZE)
    assert any("the mask is at the other end" in note for note in crop.notes)
    crop = crop_sample(volume(plug), cartilage, SIZE, "first")
    assert crop.scan[20].mean() > 120 > crop.scan[-1].mean()  # bone, cartilage
    assert any("bone is said to be at the first slices" in note for note in crop.notes)


def test_near_the_edge_the_crop_moves_inward() -> None:
    wide = draw_plug((60, 54, 110))[:, :, 20:]  # the plug's centre is at 35 of 90
    crop = crop_sample(volume(wide), wide > 150, (48, 32, 80))
    assert np.array_equal(crop.scan[:, 16], wide[:48, 27, :80])
    assert crop.scan.shape == (48, 32, 80)
    (note,) = (note for note in crop.notes if "moved inward" in note)
    assert any(f"by {n} voxels along X" in note for n in (4, 5, 6))


def test_a_scan_smaller_than_the_crop_is_padded_with_background(plug: np.ndarray, mask: np.ndarray) -> None:
    lifted = np.maximum(plug, 7)  # the air is 7
    crop = crop_sample(volume(lifted), mask, (100, 71, 67))
    assert (crop.scan.shape, crop.mask.shape) == ((100, 71, 67),) * 2
    assert np.array_equal(crop.scan[:60, 8:62, 6:60], lifted)
    assert np.array_equal(crop.mask[:60, 8:62, 6:60], mask)
    for pad in (np.s_[60:], np.s_[:, :8], np.s_[:, 62:], np.s_[:, :, :6], np.s_[:, :, 60:]):
        assert (crop.scan[pad] == 7).all()
        assert not crop.mask[pad].any()
    assert any("padded" in note for note in crop.notes)


def test_padding_is_at_the_cartilage_end_of_a_turned_scan(plug: np.ndarray, mask: np.ndarray) -> None:
    crop = crop_sample(volume(plug[::-1]), mask[::-1], (100, 32, 40))
    assert np.array_equal(crop.scan[:60], crop_sample(volume(plug), mask, (60, 32, 40)).scan)
    assert not crop.mask[60:].any()


# ------------------------------------------------------------------------------------------- voxels


@pytest.mark.parametrize("voxel_um", [1.6, 2.5, 6.4, 3.3, 3.21])
def test_another_voxel_size_is_resampled(voxel_um: float) -> None:
    drawn = draw_plug((100, 80, 80))
    crop = crop_sample(volume(drawn, voxel_um), drawn > 150, (36, 24, 28))
    assert (crop.scan.shape, crop.scan.dtype) == ((36, 24, 28), np.uint8)
    same = voxel_um == 3.21  # within a hundredth
    assert any("resampled" in note for note in crop.notes) != same
    middle = crop.mask[:, 10:14, 12:16] > 0
    height_um = (len(middle) - np.argmax(middle[::-1], 0)) * UM
    if voxel_um < 3:
        assert np.median(height_um) == pytest.approx(SURFACE_Z * voxel_um, abs=UM)
        assert float(crop.scan[-1, 12, 14]) == pytest.approx(120, abs=12)
    assert set(np.unique(crop.mask)) <= {0, 255}


def test_linear_resampling_by_hand() -> None:
    scan = np.zeros((64, 64, 64), np.uint16)
    z, y, x = np.ogrid[:64, :64, :64]
    inside = (y - 32) ** 2 + (x - 32) ** 2 < 25**2
    scan[:] = np.where(inside & (z < 60), 1000, 0)
    scan[:30][np.broadcast_to(inside, scan.shape)[:30]] = 2000
    crop = crop_sample(volume(scan, 1.6), scan == 2000, (24, 12, 12))
    # 24 voxels of 3.2 µm are 48 of 1.6 µm; the step at 30 lies at 15
    assert crop.mask[:, 6, 6].tolist() == [255] * 15 + [0] * 9
    assert crop.scan[:, 6, 6].tolist() == [255] * 15 + [0] * 9


def test_coarser_voxels_by_hand() -> None:
    z, y, x = np.ogrid[:40, :40, :40]
    inside = (y - 20) ** 2 + (x - 20) ** 2 < 15**2
    scan = np.where(inside & (z < 32), np.where(z < 12, 201, 90), 0).astype(np.uint8)
    crop = crop_sample(volume(scan, 6.4), scan == 201, (40, 12, 12), "first")
    assert crop.mask[:, 6, 6].tolist() == [255] * 24 + [0] * 16
    # a quarter and three quarters of the way from 201 to 90: 173.25 and 117.75
    assert crop.scan[:, 6, 6].tolist() == [201] * 23 + [173, 118] + [90] * 15


def test_8_bit_grey_levels_stay(plug: np.ndarray, mask: np.ndarray) -> None:
    crop = crop_sample(volume(plug // 4), mask, SIZE)
    assert crop.scan.max() == (plug // 4)[:48, 16:48, 12:52].max()
    assert not any("grey levels" in note for note in crop.notes)


@settings(max_examples=4, deadline=None)
@given(
    gain=st.floats(2, 100),
    offset=st.integers(-10000, 20000),
    dtype=st.sampled_from(["i4", "u4", "f4", "f8"]),
)
def test_other_grey_levels_are_windowed_whatever_their_scale(
    crop: Crop, gain: float, offset: int, dtype: str
) -> None:
    plug = draw_plug(SHAPE)
    offset = max(offset, 0) if dtype == "u4" else offset
    found = crop_sample(volume((plug * gain + offset).astype(dtype)), plug > 150, SIZE).scan
    low, high = np.percentile(crop.scan, (0.1, 99.9))
    expected = np.clip((crop.scan.astype(float) - low) * 255 / (high - low), 0, 255)
    # off by what the steps of the integers make, and by half a grey level of rounding
    assert np.abs(found - expected).max() <= 0.5 + 3 * 255 / (high - low) / gain


def test_the_8_bit_rule_is_told(plug: np.ndarray, mask: np.ndarray) -> None:
    crop = crop_sample(volume(plug.astype(np.uint16) * 100), mask, SIZE)
    assert any("uint16 grey levels" in note and "became 0 to 255" in note for note in crop.notes)
    assert (crop.scan == 0).mean() > 0.0005
    assert (crop.scan == 255).mean() > 0.0005


# -------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("high", [1, 65535])
def test_any_two_levels_are_a_mask(crop: Crop, plug: np.ndarray, mask: np.ndarray, high: int) -> None:
    labels = (mask > 0).astype(np.uint16) * np.uint16(high)
    assert np.array_equal(crop_sample(volume(plug), labels, SIZE).mask, crop.mask)


def test_a_grey_mask_is_refused(plug: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(ContentError, match="more than two grey levels"):
        crop_sample(volume(plug), np.where(mask > 0, plug, 0), SIZE)


def test_an_empty_mask_is_refused(plug: np.ndarray, mask: np.ndarray) -> None:
    with pytest.raises(ContentError, match="no hard tissue inside the plug"):
        crop_sample(volume(plug), np.zeros_like(mask), SIZE)


def test_a_crop_without_hard_tissue_is_refused(plug: np.ndarray) -> None:
    rim = np.zeros_like(plug)
    rim[20:30, 5:9, 23:31] = 255  # inside the plug's box, outside the crop
    with pytest.raises(ContentError, match="no hard tissue in the crop"):
        crop_sample(volume(plug), rim, SIZE)


def test_a_mask_of_another_scan_is_doubted(plug: np.ndarray) -> None:
    z, y, x = np.nonzero(plug < 50)
    elsewhere = np.zeros_like(plug)
    bone = z < SURFACE_Z
    elsewhere[z[bone], y[bone], x[bone]] = 255
    crop = crop_sample(volume(plug), elsewhere, SIZE)
    assert any("outside the tissue" in note for note in crop.notes)


def test_a_crop_that_ends_below_the_tidemark_is_pointed_out(plug: np.ndarray, mask: np.ndarray) -> None:
    for way in (1, -1):
        crop = crop_sample(volume(plug[::way]), mask[::way], (30, 32, 40))
        assert any("hard tissue goes on beyond the crop" in note for note in crop.notes)
        crop = crop_sample(volume(plug[::way]), mask[::way], SIZE)
        assert not any("beyond the crop" in note for note in crop.notes)


def test_an_image_is_refused(plug: np.ndarray) -> None:
    with pytest.raises(ScanError, match="2D image"):
        crop_sample(volume(plug[:, :1]), plug[:, :1], SIZE)


def test_the_mask_of_a_file(tmp_path: Path, plug: np.ndarray, mask: np.ndarray) -> None:
    write_volume(tmp_path / "pta.tif", plug, UM)
    pta = read_volume(tmp_path / "pta.tif")
    write_volume(tmp_path / "good.nrrd", mask, UM)
    assert np.array_equal(read_mask_of(pta, tmp_path / "good.nrrd"), mask)
    write_volume(tmp_path / "other.tif", mask[:-1], UM)
    with pytest.raises(ScanError, match=r"other\.tif has 59 x 54 x 54 voxels .* 60 x 54 x 54"):
        read_mask_of(pta, tmp_path / "other.tif")
    write_volume(tmp_path / "coarse.tif", mask, 4.0)
    with pytest.raises(ScanError, match=r"voxels of 4 µm, .* of 3\.2 µm"):
        read_mask_of(pta, tmp_path / "coarse.tif")
    assert np.array_equal(read_mask_of(pta, tmp_path / "coarse.tif", UM), mask)
    write_volume(tmp_path / "empty.tif", np.zeros_like(mask), UM)
    with pytest.raises(ContentError, match=r"empty\.tif is 0 everywhere; expected the mask of .*pta\.tif"):
        read_mask_of(pta, tmp_path / "empty.tif")
    with pytest.raises(ScanError, match="does not exist"):
        read_mask_of(pta, tmp_path / "nowhere.tif")


def test_a_mask_with_other_axes_is_put_right(tmp_path: Path, plug: np.ndarray, mask: np.ndarray) -> None:
    write_volume(tmp_path / "pta.nrrd", plug, UM)
    write_volume(tmp_path / "mask.nrrd", mask, UM)
    pta, image = read_volume(tmp_path / "pta.nrrd"), sitk.ReadImage(str(tmp_path / "mask.nrrd"))
    other = sitk.Flip(sitk.PermuteAxes(image, (1, 0, 2)), (False, True, True))
    sitk.WriteImage(other, str(tmp_path / "mask.nrrd"))
    assert np.array_equal(read_mask_of(pta, tmp_path / "mask.nrrd"), mask)
    other.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(other, str(tmp_path / "mask.nrrd"))
    with pytest.raises(ScanError, match="lies elsewhere than"):
        read_mask_of(pta, tmp_path / "mask.nrrd")


def test_a_mapped_scan_is_copied(tmp_path: Path, crop: Crop, plug: np.ndarray, mask: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "pta.tif", plug, imagej=True, metadata={"axes": "ZYX"})
    pta = read_volume(tmp_path / "pta.tif", UM)
    assert isinstance(pta.array, np.memmap)
    mapped = crop_sample(pta, mask, SIZE)
    assert np.array_equal(mapped.scan, crop.scan)
    assert not np.may_share_memory(mapped.scan, pta.array)
