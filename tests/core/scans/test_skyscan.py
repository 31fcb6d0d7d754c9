"""Folders of slices and NRecon logs."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tidemark_cli.core.errors import ContentError, FormatError, StackError
from tidemark_cli.core.scans.skyscan import find_log, read_log, read_stack
from tidemark_cli.core.scans.volume import find_scans, read_volume

LOG = """[System]
Scanner=SkyScan1272
Camera Pixel Size (um)=7.4
[User]
User Name=x
[Acquisition]
Filename prefix=S1
Image Pixel Size (um)= 3.20
Exposure (ms)=100%
Study Date and Time=Mar 12, 2019  14:33:21
[Reconstruction]
Reconstruction Program=NRecon
PIXEL Size (um)=3.19959
Result Image Width (pixels)=6
Result Image Height (pixels)=5
Sections Count=4
First Section=12
Last Section=15
Section to Section Step=1
Result File Type=BMP
[File name convention]
Filename Index Length=8
"""


def stack_array(depth: int = 4) -> np.ndarray:
    return (np.arange(depth * 5 * 6) % 251).reshape(depth, 5, 6).astype(np.uint8)


def write_slices(folder: Path, array: np.ndarray, name: str = "S1__rec{:08d}.bmp", first: int = 12) -> None:
    folder.mkdir(exist_ok=True)
    for index, grey in enumerate(array, first):
        path = folder / name.format(index)
        if path.suffix == ".tif":
            tifffile.imwrite(path, grey)
        else:
            cv2.imwrite(str(path), grey, [cv2.IMWRITE_JPEG_QUALITY, 100])


def write_palette_bmp(path: Path, indices: np.ndarray, palette: np.ndarray) -> None:
    """Write an 8-bit BMP with a palette (256, 3), the way SkyScan does."""
    rows, columns = indices.shape
    padding = (-columns) % 4
    body = b"".join(row.tobytes() + b"\0" * padding for row in indices[::-1])
    table = np.concatenate([palette[:, ::-1], np.zeros((256, 1))], axis=1).astype(np.uint8).tobytes()
    info = np.array([40, columns, rows], "<u4").tobytes() + np.array([1, 8], "<u2").tobytes()
    info += np.array([0, len(body), 0, 0, 256, 0], "<u4").tobytes()
    start = 14 + 40 + 1024
    head = b"BM" + np.array([start + len(body), 0, start], "<u4").tobytes()
    path.write_bytes(head + info + table + body)


# --------------------------------------------------------------------------------------------- logs


def test_log_of_nrecon(tmp_path):
    (tmp_path / "S1__rec.log").write_text(LOG)
    log = read_log(tmp_path / "S1__rec.log")
    assert (log.voxel_um, log.section_step, log.sections, log.shape) == (3.19959, 1, 4, (5, 6))


@pytest.mark.parametrize(
    ("text", "voxel_um"),
    [
        ("[System]\nCamera Pixel Size (um)=7.4\n", None),
        ("[Acquisition]\nImage Pixel Size (um)=3.20\n", 3.2),
        ("[Reconstruction]\nPixel Size (um)=2,75\n", 2.75),
        ("[Reconstruction]\nPixel Size (um)=unknown\n[Acquisition]\nimage pixel size (um)=3.2", 3.2),
        ("[Reconstruction]\nPixel Size (um)=2.5\nPixel Size (um)=2.6\nFilter=%50\nalone\n", 2.6),
        ("\u00ef\u00bb\u00bf[reconstruction]\nPixel Size (um)=2.5\nNote=\u00b5\n", 2.5),
    ],
)
def test_voxel_size_of_logs(text, voxel_um, tmp_path):
    (tmp_path / "a.log").write_bytes(text.encode("latin-1"))
    assert read_log(tmp_path / "a.log").voxel_um == voxel_um


@pytest.mark.parametrize("text", ["2024-01-01 started\n", "[a]\nkey\n  continued\n  more = 1\n"])
def test_a_log_of_something_else(text, tmp_path):
    (tmp_path / "a.log").write_text(text)
    with pytest.raises(FormatError, match="is not a SkyScan log"):
        read_log(tmp_path / "a.log")
    assert find_log(tmp_path, "a") is None


def test_which_log_belongs_to_which_prefix(tmp_path):
    def put(folder: Path, name: str, voxel_um: float) -> None:
        (folder / name).write_text(f"[Reconstruction]\nPixel Size (um)={voxel_um}\n")

    inner = tmp_path / "rec"
    inner.mkdir()
    put(tmp_path, "S1.log", 1)
    put(tmp_path, "S1_PTA__rec.log", 2)
    put(tmp_path, "S1_PTA__rec.ctan.log", 9)
    put(tmp_path, "S10_rec.log", 3)

    def voxel_um(folder: Path, prefix: str) -> float | None:
        log = find_log(folder, prefix)
        return log and log.voxel_um

    assert voxel_um(inner, "S1_PTA__rec_Tar") == 2
    assert voxel_um(inner, "S1_CA4__rec") == 1
    assert voxel_um(inner, "S10_rec") == 3
    assert voxel_um(inner, "S100_rec") is None
    assert voxel_um(inner, "") is None
    put(inner, "S1_PTA__rec.log", 4)
    assert voxel_um(inner, "S1_PTA__rec") == 4


# -------------------------------------------------------------------------------------------- stacks


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", ["bmp", "png", "tif", "BMP"])
@pytest.mark.parametrize("digits", [4, 8])
def test_slices_make_a_stack(dtype, suffix, digits, tmp_path):
    if suffix.lower() == "bmp" and dtype == "uint16":
        dtype = "uint8"
    array = stack_array().astype(dtype)
    write_slices(tmp_path / "S1", array, f"S1__rec{{:0{digits}d}}.{suffix}")
    (tmp_path / "S1" / "S1__rec.log").write_text(LOG)
    scan = read_volume(tmp_path / "S1")
    assert scan.array.dtype == dtype and np.array_equal(scan.array, array)
    assert (scan.voxel_um, scan.voxel_source, scan.name) == (3.19959, "file", "S1")
    assert scan.notes == () and not scan.is_image


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_signed_and_float_tiff_slices(dtype, tmp_path):
    array = stack_array().astype(dtype) - 100
    write_slices(tmp_path / "a", array, "a_{:04d}.tif")
    scan = read_volume(tmp_path / "a")
    assert scan.array.dtype == dtype and np.array_equal(scan.array, array)


def test_jpeg_slices(tmp_path):
    array = np.repeat(np.arange(20, 220, 50, dtype=np.uint8), 64).reshape(4, 8, 8)
    write_slices(tmp_path / "a", array, "a_rec{:08d}.jpg")
    assert np.abs(read_volume(tmp_path / "a").array.astype(int) - array).max() <= 2


def test_unpadded_names_are_sorted_by_number(tmp_path):
    array = stack_array(12)
    write_slices(tmp_path / "a", array, "ZX_{}.png", first=1)
    assert np.array_equal(read_volume(tmp_path / "a").array, array)


def test_names_of_the_paper_and_a_log_one_folder_up(tmp_path):
    write_slices(tmp_path / "slices", stack_array(), "13_R3L_2_PTA_48h__rec_Tar{:08d}.png", first=38)
    (tmp_path / "13_R3L_2_PTA_48h__rec.log").write_text(LOG)
    scan = read_volume(tmp_path / "slices")
    assert scan.voxel_um == 3.19959 and scan.notes == ()


def test_a_foreign_log_one_folder_up_is_not_taken_but_the_only_one_inside_is(tmp_path):
    write_slices(tmp_path / "S2", stack_array(), "S2_rec{:08d}.png")
    (tmp_path / "S1_rec.log").write_text(LOG)
    assert read_volume(tmp_path / "S2").voxel_source == "default"
    (tmp_path / "S2" / "renamed.log").write_text(LOG)
    assert read_volume(tmp_path / "S2").voxel_um == 3.19959


def test_voxel_size_of_tiff_slices_without_a_log(tmp_path):
    (tmp_path / "a").mkdir()
    for z, grey in enumerate(stack_array()):
        tifffile.imwrite(
            tmp_path / "a" / f"a{z:04d}.tif", grey, resolution=(4000, 4000), resolutionunit="centimeter"
        )
    scan = read_volume(tmp_path / "a")
    assert (scan.voxel_um, scan.voxel_source) == (2.5, "file")


def test_other_files_and_previews_are_passed_over(tmp_path):
    folder = tmp_path / "a"
    write_slices(folder, stack_array(), "a_rec{:08d}.bmp")
    cv2.imwrite(str(folder / "a_rec_spr.bmp"), np.zeros((9, 9), np.uint8))
    cv2.imwrite(str(folder / "overview7.png"), np.zeros((9, 9), np.uint8))
    cv2.imwrite(str(folder / ".a_rec00000016.bmp"), np.zeros((5, 6), np.uint8))
    for name in ("Thumbs.db", "a_rec.ctan.log", "notes.txt", "a_rec.log"):
        (folder / name).write_text("not a slice")
    scan = read_volume(folder, voxel_um=3)
    assert np.array_equal(scan.array, stack_array())
    assert scan.notes == ("skipped a_rec_spr.bmp, overview7.png: not slices of this stack",)


def test_grey_palettes_and_equal_channels_are_grey_and_colour_is_not(tmp_path):
    array = stack_array()
    ramp = np.stack([np.arange(256)] * 3, 1)
    for name, palette in (("plain", ramp), ("inverted", ramp[::-1]), ("fire", ramp * (1, 0, 1))):
        (tmp_path / name).mkdir()
        for z, indices in enumerate(array, 1):
            write_palette_bmp(tmp_path / name / f"a{z:04d}.bmp", indices, palette)
    assert np.array_equal(read_volume(tmp_path / "plain").array, array)
    assert np.array_equal(read_volume(tmp_path / "inverted").array, 255 - array)
    with pytest.raises(ContentError, match=r"a0001\.bmp is a colour image"):
        read_volume(tmp_path / "fire")
    write_slices(tmp_path / "rgb", np.stack([array] * 3, -1), "a{:04d}.png")
    scan = read_volume(tmp_path / "rgb")
    assert np.array_equal(scan.array, array)
    assert scan.notes[0] == "equal colour channels, read as grey"


# --------------------------------------------------------------------------------------- projections

SCANNER_LOG = """[System]
Scanner=SkyScan1272
[Acquisition]
Filename Prefix=S1_
Number Of Files=12
Number Of Rows=7
Number Of Columns=6
Image Pixel Size (um)=20.0
"""


def scan_of_skyscan(top: Path, *reconstructions: str) -> None:
    """Write twelve projections 7 x 6 with the scanner's log, and reconstructions in folders below."""
    write_slices(top, np.arange(12 * 42, dtype=np.uint16).reshape(12, 7, 6), "S1_{:04d}.tif", first=0)
    (top / "S1_.log").write_text(SCANNER_LOG)
    for name in reconstructions:
        write_slices(top / name, stack_array(), "S1__rec{:08d}.bmp", first=0)
        (top / name / "S1__rec.log").write_text(SCANNER_LOG + "[Reconstruction]\nPixel Size (um)=20.0\n")


def test_of_projections_the_reconstruction_below_is_read(tmp_path):
    scan_of_skyscan(tmp_path / "S1", "S1_Rec")
    (tmp_path / "S1" / "notes").mkdir()
    scan = read_volume(tmp_path / "S1")
    assert np.array_equal(scan.array, stack_array()) and scan.voxel_um == 20 and scan.name == "S1"
    assert scan.notes[0] == "12 projections passed over, the slices in S1_Rec are read"
    assert np.array_equal(read_volume(tmp_path / "S1" / "S1_Rec").array, stack_array())


@pytest.mark.parametrize("names", [(), ("S1_Rec", "S1_Rec_VOI")])
def test_projections_without_one_reconstruction_are_refused(names, tmp_path):
    scan_of_skyscan(tmp_path / "S1", *names)
    with pytest.raises(StackError, match="holds the projections of a scan") as told:
        read_volume(tmp_path / "S1")
    assert all(name in str(told.value) for name in names)


def test_a_reconstruction_is_found_where_the_projections_are_gone(tmp_path):
    scan_of_skyscan(tmp_path / "S1", "S1_Rec")
    scan_of_skyscan(tmp_path / "S2", "S2_Rec")
    for path in (tmp_path / "S2").glob("*.tif"):
        path.unlink()
    assert find_scans(tmp_path) == [tmp_path / "S1", tmp_path / "S2" / "S2_Rec"]


def test_slices_beside_the_log_of_the_scanner_are_slices(tmp_path):
    square = np.arange(4 * 36, dtype=np.uint8).reshape(4, 6, 6)
    write_slices(tmp_path / "S1", square, "S1_{:04d}.png")
    (tmp_path / "S1" / "S1_.log").write_text(SCANNER_LOG)
    assert np.array_equal(read_volume(tmp_path / "S1").array, square)


def test_logs_of_other_names_and_encodings(tmp_path):
    write_slices(tmp_path / "a", stack_array(), "slice{:04d}.png")
    (tmp_path / "a" / "S1_.log").write_text(SCANNER_LOG)
    (tmp_path / "a" / "S1__rec.log").write_text(LOG, encoding="utf-16")
    assert read_volume(tmp_path / "a").voxel_um == 3.19959
    (tmp_path / "a" / "S2__rec.log").write_text(LOG.replace("3.19959", "2.5"))
    assert read_volume(tmp_path / "a").voxel_source == "default"


# -------------------------------------------------------------------------------------------- errors


def test_missing_slices_are_named(tmp_path):
    write_slices(tmp_path / "a", stack_array(10), "a_rec{:08d}.png", first=1)
    for index in (4, 5, 8):
        (tmp_path / "a" / f"a_rec{index:08d}.png").unlink()
    with pytest.raises(StackError, match=r"misses 3 slice\(s\): a_rec00000004\.png, .*05\.png, .*08\.png;"):
        read_volume(tmp_path / "a")


def test_a_long_gap_is_shortened(tmp_path):
    write_slices(tmp_path / "a", stack_array(2), "a{:04d}.png", first=1)
    write_slices(tmp_path / "a", stack_array(2), "a{:04d}.png", first=1_000_000_000)
    with pytest.raises(StackError, match=r"misses 999999997 slice\(s\): a0003\.png, .*a0007\.png, \.\.\.;"):
        read_volume(tmp_path / "a")


def test_two_files_of_one_number(tmp_path):
    write_slices(tmp_path / "a", stack_array(3), "a{:04d}.png")
    cv2.imwrite(str(tmp_path / "a" / "a012.png"), stack_array()[0])
    with pytest.raises(StackError, match="two slices numbered 12"):
        read_volume(tmp_path / "a")


@pytest.mark.parametrize("other", ["b_rec{:08d}.png", "a_rec{:08d}.bmp"])
def test_mixed_folders(other, tmp_path):
    write_slices(tmp_path / "a", stack_array(5), "a_rec{:08d}.png")
    write_slices(tmp_path / "a", stack_array(3), other)
    with pytest.raises(StackError, match=r"is mixed; .*5 x a_rec#\.png and 3 x"):
        read_volume(tmp_path / "a")


def test_odd_slices_at_the_ends_are_skipped_with_a_note(tmp_path):
    array = stack_array(10)
    write_slices(tmp_path / "a", array, "a{:04d}.png", first=1)
    cv2.imwrite(str(tmp_path / "a" / "a0001.png"), np.zeros((7, 7), np.uint8))
    cv2.imwrite(str(tmp_path / "a" / "a0010.png"), np.zeros((5, 6), np.uint16))
    scan = read_volume(tmp_path / "a", voxel_um=3)
    assert np.array_equal(scan.array, array[1:9])
    assert scan.notes == ("skipped a0001.png, a0010.png: of another shape or depth than the rest",)


@pytest.mark.parametrize("odd", [(5,), (1, 2, 3, 4), (1, 2, 3, 4, 5)])
def test_odd_slices_inside_or_too_many_of_them(odd, tmp_path):
    write_slices(tmp_path / "a", stack_array(10), "a{:04d}.png", first=1)
    for index in odd:
        cv2.imwrite(str(tmp_path / "a" / f"a{index:04d}.png"), np.zeros((7, 7), np.uint8))
    with pytest.raises(StackError, match="slices of different shapes"):
        read_volume(tmp_path / "a")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_a_truncated_slice_is_named(suffix, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (9, 30, 30), np.uint8)
    write_slices(tmp_path / "a", array, f"a{{:04d}}.{suffix}", first=1)
    path = tmp_path / "a" / f"a0004.{suffix}"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FormatError, match=rf"a0004\.{suffix} is not a whole"):
        read_volume(tmp_path / "a")


def test_folders_without_a_stack(tmp_path):
    with pytest.raises(StackError, match=r"holds no stack; .*found 0 image"):
        read_volume(tmp_path)
    write_slices(tmp_path, stack_array(1))
    with pytest.raises(StackError, match=r"holds no stack; .*found 1 image.*S1"):
        read_volume(tmp_path)


def test_multi_page_tiffs_are_scans_not_slices(tmp_path):
    for k in (1, 2):
        tifffile.imwrite(tmp_path / f"S{k}.tif", stack_array(), photometric="minisblack")
    with pytest.raises(StackError, match="TIFF files of many pages each"):
        read_volume(tmp_path)


def test_a_multi_page_tiff_among_the_slices(tmp_path):
    write_slices(tmp_path / "a", stack_array(9), "a{:04d}.tif", first=1)
    tifffile.imwrite(tmp_path / "a" / "a0004.tif", stack_array(), photometric="minisblack")
    with pytest.raises(StackError, match=r"a0004\.tif has several pages"):
        read_volume(tmp_path / "a")


def test_every_second_section_is_anisotropic_unless_the_option_says_otherwise(tmp_path):
    folder = tmp_path / "a"
    write_slices(folder, stack_array(), "a_rec{:08d}.png")
    for index in (13, 15):
        (folder / f"a_rec{index:08d}.png").unlink()
    (folder / "a_rec.log").write_text(LOG.replace("Step=1", "Step=2").replace("Count=4", "Count=2"))
    with pytest.raises(ContentError, match=r"6\.39918 x 3\.19959 x 3\.19959 µm"):
        read_volume(folder)
    assert read_volume(folder, voxel_um=3.2).array.shape == (2, 5, 6)


def test_a_log_that_disagrees_is_told(tmp_path):
    folder = tmp_path / "a"
    write_slices(folder, stack_array()[:3, :4], "a_rec{:08d}.png")
    (folder / "a_rec.log").write_text(LOG)
    notes = read_stack(folder).notes
    assert "slices are 6 x 4 where a_rec.log says 6 x 5" in notes[0]
    assert notes[1] == "3 slices where a_rec.log says 4"


def test_many_images_that_do_not_fit_are_not_skipped(tmp_path):
    write_slices(tmp_path / "a", stack_array(10), "a{:04d}.png")
    for letter in "bcdefg":
        cv2.imwrite(str(tmp_path / "a" / f"slice_{letter}.png"), stack_array()[0])
    with pytest.raises(StackError, match="6 images that do not fit the numbers of the other 10"):
        read_volume(tmp_path / "a")


@pytest.mark.parametrize("number", ["1e400", "nan", "-3", "0", "0.5", "many"])
def test_numbers_of_a_log_that_are_no_counts(number, tmp_path):
    path = tmp_path / "a.log"
    keys = (
        "Sections Count",
        "Section to Section Step",
        "Result Image Width (pixels)",
        "Result Image Height (pixels)",
    )
    lines = "\n".join(f"{key}={number}" for key in keys)
    path.write_text(f"[Reconstruction]\nPixel Size (um)=3.2\n{lines}\n")
    log = read_log(path)
    assert (log.voxel_um, log.section_step) == (3.2, 1)
    path.write_text(f"[Reconstruction]\nPixel Size (um)={number}\n")
    assert read_log(path).voxel_um in (None, 0.5)


@pytest.mark.parametrize(
    "line",
    ["Pixel Size (um)=3.2 um", "Pixel Size (um)=3,2", "pixel size (mm) = 0.0032", "Pixel Size (µm)=3.2"],
)
def test_voxel_sizes_of_logs_in_other_spellings(line, tmp_path):
    (tmp_path / "a.log").write_text(
        f"[Acquisition]\nImage Pixel Size (um)=3\n[Reconstruction]\n{line}\n", "latin-1"
    )
    assert read_log(tmp_path / "a.log").voxel_um == 3.2


def test_a_log_of_another_name_is_told(tmp_path):
    write_slices(tmp_path, stack_array())
    (tmp_path / "S2__rec.log").write_text(LOG)
    assert "that of S2__rec.log" in read_stack(tmp_path).notes[0]


def test_no_slice_is_decoded_twice(tmp_path, monkeypatch):
    write_slices(tmp_path, stack_array(9))
    (tmp_path / "S1__rec.log").write_text(LOG)
    read: list[str] = []
    skyscan = sys.modules[read_stack.__module__]
    read_image = skyscan.read_image
    monkeypatch.setattr(skyscan, "read_image", lambda path: read.append(path.name) or read_image(path))
    read_stack(tmp_path)
    assert len(read) == len(set(read)) == 9
