"""Files of scans as scanners and programs leave them, made here: one way to write each kind that is read."""

from __future__ import annotations

import locale
import math
import struct
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import h5py
import numpy as np
import SimpleITK as sitk
import tifffile

from tidemark_cli.core.scans.volume import write_volume

VOXEL_UM = 3.2
Maker = Callable[[Path, np.ndarray], Path]  # a folder, (Z, Y, X) of uint16; the file to read


def made_isq(folder: Path, array: np.ndarray) -> Path:
    """Write an ISQ file with a header of three blocks; 16-bit signed."""
    z, y, x = array.shape
    head = bytearray(3 * 512)
    head[:16] = b"CTDATA-HEADER_V1"
    struct.pack_into("<i", head, 16, 3)
    struct.pack_into("<6i", head, 44, x, y, z, *(round(length * VOXEL_UM) for length in (x, y, z)))
    struct.pack_into("<i", head, 508, 2)
    path = folder / "C0001234.ISQ;1"
    path.write_bytes(bytes(head) + array.astype("<i2").tobytes())
    return path


def vax(number: float) -> bytes:
    """Return a number as a VAX keeps it."""
    data = struct.pack("<f", 4 * number)
    return data[2:] + data[:2]


def made_aim(folder: Path, array: np.ndarray, version: int = 2, kind: int = 0x00020002) -> Path:
    """Write an AIM file, of shorts."""
    z, y, x = array.shape
    log = b"! Processing Log\n"
    if version == 2:
        image = bytearray(140)
        struct.pack_into("<i", image, 20, kind)
        struct.pack_into("<3i", image, 36, x, y, z)
        image[108:120] = vax(VOXEL_UM / 1000) * 3
        head = struct.pack("<5i", 20, len(image), len(log), array.size * 2, 0)
    else:
        image = bytearray(224)
        struct.pack_into("<i", image, 12, kind)
        struct.pack_into("<3q", image, 40, x, y, z)
        struct.pack_into("<3q", image, 184, *[round(VOXEL_UM * 1000)] * 3)
        head = b"AIMDATA_V030   \0" + struct.pack("<5q", 40, len(image), len(log), array.size * 2, 0)
    path = folder / "scan.aim"
    path.write_bytes(head + bytes(image) + log + array.astype("<i2").tobytes())
    return path


def made_vgi(folder: Path, array: np.ndarray) -> Path:
    size = " ".join(map(str, array.shape[::-1]))
    (folder / "scan.vgi").write_text(
        f"{{volume1}}\n[representation]\nsize = {size}\ndatatype = unsigned integer\nbitsperelement = 16\n"
        f"[file1]\nSkipHeader = 0\nFileFormat = raw\nSize = {size}\nName = scan.vol\n"
        "Datatype = unsigned integer\nBitsPerElement = 16\n{volumeprimitive12}\n[geometry]\n"
        f"resolution = {' '.join([str(VOXEL_UM / 1000)] * 3)}\nunit = mm\n"
    )
    (folder / "scan.vol").write_bytes(array.astype("<u2").tobytes())
    return folder / "scan.vgi"


def made_pcr(folder: Path, array: np.ndarray) -> Path:
    z, y, x = array.shape
    (folder / "scan.pcr").write_text(
        f"[Version]\nVersion=2\n[VolumeData]\nFormat=5\nVolume_SizeX={x}\nVolume_SizeY={y}\nVolume_SizeZ={z}\n"
        f"VoxelSizeRec={VOXEL_UM / 1000:.8f}\n"
    )
    (folder / "scan.vol").write_bytes(array.astype("<u2").tobytes())
    return folder / "scan.vol"


def made_txm(folder: Path, array: np.ndarray) -> Path:
    z, y, x = array.shape
    numbers = {"ImageWidth": x, "ImageHeight": y, "NoOfImages": z, "DataType": 5}
    streams = {f"ImageInfo/{name}": struct.pack("<i", number) for name, number in numbers.items()}
    streams["ImageInfo/PixelSize"] = struct.pack("<f", VOXEL_UM)
    for number, plane in enumerate(array):
        streams[f"ImageData{number // 100 + 1}/Image{number + 1}"] = plane.astype("<u2").tobytes()
    (folder / "scan.txm").write_bytes(ole_file(streams))
    return folder / "scan.txm"


def ole_file(streams: dict[str, bytes]) -> bytes:
    """Return a compound file (OLE 2, sectors of 512 bytes) of streams in folders one deep."""
    free, last = 0xFFFFFFFF, 0xFFFFFFFE
    folders = sorted({name.partition("/")[0] for name in streams})
    small = [name for name, data in streams.items() if len(data) < 4096]
    mini, minifat, starts = b"", [], {}
    for name in small:
        count = max(1, math.ceil(len(streams[name]) / 64))
        starts[name] = len(minifat)
        minifat += [len(minifat) + k + 1 for k in range(count - 1)] + [last]
        mini += streams[name].ljust(64 * count, b"\0")
    chains: list[bytes] = []
    fat: list[int] = []

    def chained(data: bytes) -> int:
        if not data:
            return last
        count, start = math.ceil(len(data) / 512), len(fat)
        fat.extend([start + k + 1 for k in range(count - 1)] + [last])
        chains.append(data.ljust(512 * count, b"\0"))
        return start

    mini_at = chained(mini)
    minifat += [free] * (-len(minifat) % 128)
    minifat_at = chained(struct.pack(f"<{len(minifat)}I", *minifat))
    for name, data in streams.items():
        if name not in small:
            starts[name] = chained(data)

    entries: list[bytes] = []

    def entry(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
        text = (name + "\0").encode("utf-16-le")
        head = text.ljust(64, b"\0") + struct.pack("<HBBIII", len(text), kind, 1, free, right, child)
        return head + bytes(36) + struct.pack("<IQ", start, size)

    entries.append(entry("Root Entry", 5, free, 1, mini_at, len(mini)))
    number = 1 + len(folders)
    below: list[bytes] = []
    for place, one in enumerate(folders):
        inside = [name for name in streams if name.partition("/")[0] == one]
        right = place + 2 if place + 1 < len(folders) else free
        entries.append(entry(one, 1, right, number, 0, 0))
        for name in inside:
            number += 1
            right = number if name != inside[-1] else free
            below.append(entry(name.partition("/")[2], 2, right, free, starts[name], len(streams[name])))
    directory_at = chained(b"".join(entries + below))
    tables = 1
    while tables * 128 < len(fat) + tables:
        tables += 1
    table_at = len(fat)
    fat += [0xFFFFFFFD] * tables
    fat += [free] * (tables * 128 - len(fat))
    numbers = (0, tables, directory_at, 0, 4096, minifat_at, len(minifat) // 128, last, 0)
    head = bytes.fromhex("d0cf11e0a1b11ae1") + struct.pack("<16xHHHHH6x9I", 62, 3, 0xFFFE, 9, 6, *numbers)
    difat = [table_at + k for k in range(tables)] + [free] * (109 - tables)
    head += struct.pack("<109I", *difat)
    return head + b"".join(chains) + struct.pack(f"<{len(fat)}I", *fat)


def made_hdf5(folder: Path, array: np.ndarray, **options: object) -> Path:
    """Write a NeXus file whose axes tell the voxel size."""
    path = folder / "scan.h5"
    with h5py.File(path, "w") as h5:
        entry = h5.create_group("entry")
        data = entry.create_group("data")
        h5.attrs["default"], entry.attrs["default"] = "entry", "data"
        data.attrs["signal"], data.attrs["axes"] = "volume", ["z", "y", "x"]
        data.create_dataset("volume", data=array, **options)
        for name, length in zip("zyx", array.shape, strict=True):
            data[name] = np.arange(length) * VOXEL_UM / 1000
            data[name].attrs["units"] = "mm"
    return path


def made_packed_hdf5(folder: Path, array: np.ndarray) -> Path:
    return made_hdf5(folder, array, compression="gzip", fletcher32=True, chunks=(1, *array.shape[1:]))


def made_dicom(
    folder: Path, array: np.ndarray, series: str = "1.2.3", tags: dict[str, str] | None = None
) -> Path:
    """Write a folder of slices; their names tell nothing of their order."""
    folder = folder / "dicom"
    folder.mkdir(exist_ok=True)
    before = locale.setlocale(locale.LC_ALL)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    mm = VOXEL_UM / 1000
    for z, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane[np.newaxis])
        image.SetSpacing([mm] * 3)
        told = {"0008|0060": "CT", "0020|000d": "1.2", "0020|000e": series, "0008|0018": f"{series}.{z + 1}"}
        told |= {"0020|0032": f"0\\0\\{z * mm:.6f}", "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(z + 1)}
        told |= {"0018|0088": f"{mm}", "0008|103e": f"plug {series}"}
        for key, value in (told | (tags or {})).items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{series}.{(z * 7919) % 10007}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)  # the writer leaves "C"
    return folder


def made_slices(folder: Path, array: np.ndarray, suffix: str = ".png") -> Path:
    """Write a folder of slices with the log of NRecon."""
    folder = folder / "scan_Rec"
    folder.mkdir()
    for z, plane in enumerate(array):
        path = folder / f"scan_rec{z:08d}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, plane, photometric="minisblack")
        else:
            cv2.imwrite(str(path), plane)
    (folder / "scan_rec.log").write_text(
        f"[System]\n[Reconstruction]\nPixel Size (um)={VOXEL_UM}\nSections Count={len(array)}\n"
    )
    return folder


def written(name: str) -> Maker:
    """Return a maker of what tidemark itself writes."""

    def make(folder: Path, array: np.ndarray) -> Path:
        write_volume(folder / name, array, VOXEL_UM)
        return folder / name

    return make


def made_with_itk(name: str, compress: bool) -> Maker:
    def make(folder: Path, array: np.ndarray) -> Path:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([VOXEL_UM / 1000] * 3)
        sitk.WriteImage(image, str(folder / name), useCompression=compress)
        return folder / name

    return make


def made_tiff(**options: object) -> Maker:
    """Return a maker of a TIFF as ImageJ writes it, or OME."""

    def make(folder: Path, array: np.ndarray) -> Path:
        kind = {"ome": True} if options.get("ome") else {"imagej": "tile" not in options}
        told = {"axes": "ZYX", "spacing": VOXEL_UM, "unit": "um"}
        if options.get("ome"):
            told = {"axes": "ZYX"} | {f"PhysicalSize{axis}": VOXEL_UM for axis in "XYZ"}
        if "tile" in options:
            kind, told = {}, {"unit": "um"}
        settings: dict[str, object] = {"resolution": (1 / VOXEL_UM, 1 / VOXEL_UM), "metadata": told} | options
        tifffile.imwrite(folder / "scan.tif", array, photometric="minisblack", **(kind | settings))
        return folder / "scan.tif"

    return make


MAKERS: dict[str, Maker] = {
    "tiff": made_tiff(),
    "tiff deflate": made_tiff(compression="zlib"),
    "tiff lzw": made_tiff(compression="lzw"),
    "tiff zstd": made_tiff(compression="zstd"),
    "tiff packbits": made_tiff(compression="packbits"),
    "tiff tiled": made_tiff(tile=(16, 16), compression="zlib", predictor=True),
    "tiff ome": made_tiff(ome=True),
    "tiff big-endian": made_tiff(byteorder=">"),
    "bigtiff ome, written": written("scan.ome.tif"),
    "tiff, written": written("scan.tif"),
    "nrrd": made_with_itk("scan.nrrd", compress=False),
    "nrrd, written": written("scan.nrrd"),
    "nhdr": made_with_itk("scan.nhdr", compress=False),
    "nhdr gzip": made_with_itk("scan.nhdr", compress=True),
    "mha": made_with_itk("scan.mha", compress=False),
    "mha, written": written("scan.mha"),
    "mhd": made_with_itk("scan.mhd", compress=False),
    "mhd zlib": made_with_itk("scan.mhd", compress=True),
    "nii": written("scan.nii"),
    "nii.gz": written("scan.nii.gz"),
    "slices png": made_slices,
    "slices tif": lambda folder, array: made_slices(folder, array, ".tif"),
    "dicom": made_dicom,
    "isq": made_isq,
    "aim 2": made_aim,
    "aim 3": lambda folder, array: made_aim(folder, array, version=3),
    "vgi": made_vgi,
    "pcr": made_pcr,
    "txm": made_txm,
    "hdf5": made_hdf5,
    "hdf5 gzip": made_packed_hdf5,
}
if find_spec("zarr"):  # it needs Python 3.11
    MAKERS["ome-zarr"] = written("scan.ome.zarr")
