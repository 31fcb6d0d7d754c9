"""Damaged and odd files of every kind that is read, from a seed; and what tidemark makes of one.

A trial changes one file of a scan, of its mask or of a transform, and gives it to `predict`, `preprocess`,
`metrics` or `register`. What counts against tidemark: an error that is none of its own, a wrong array from a
stream with a checksum without a word, an output although it failed, or none although it did not.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

import h5py
import numpy as np

from tests.core.scans.made import MAKERS, VOXEL_UM, made_slices
from tests.helpers import draw_plug, save_bright_model
from tidemark_cli.app import main
from tidemark_cli.core.errors import TidemarkError
from tidemark_cli.core.registration.transform import read_transform, write_transform
from tidemark_cli.core.scans.tiff_pages import list_pages
from tidemark_cli.core.scans.volume import read_volume, write_volume

SIZE = ("48", "40", "40")
TRANSFORM, MODEL = "transform", "model.safetensors"
ALL_MAKERS = MAKERS | {  # these hold 8 bits alone
    "slices bmp": lambda folder, array: made_slices(folder, (array >> 8).astype(np.uint8), ".bmp"),
    "slices jpg": lambda folder, array: made_slices(folder, (array >> 8).astype(np.uint8), ".jpg"),
}
KINDS = (*ALL_MAKERS, TRANSFORM)

_HEAD = 700  # bytes at the beginning of a file in which its header mostly lies
_TEXTS = (".log", ".vgi", ".pcr", ".nhdr", ".mhd", ".tfm", ".zattrs", ".zarray", ".zgroup", ".nrrd", ".mha")
_NUMBERS = (
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"99999999999",
    b"0.000001",
    b"abc",
    b"",
    b"1 2",
    b"\xb5",
    b"2147483648",
)
_WORDS = (
    b"mm",
    b"um",
    b"\xb5m",
    b"furlong",
    b"none",
    b"",
    b"\xff\xfe",
    b"true",
    b"../../x",
    b"big",
    b"gzip",
    b"float",
)
_VALUES = (0, 1, -1, 2, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
_FLOATS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), 3.2)


@dataclass(frozen=True)
class Verdict:
    """What became of one trial.

    Attributes
    ----------
    seed, kind, change : which file, and what was done to it.
    outcome : ``read``, ``told`` (read, with a note), ``refused``, or a fault: ``traceback``, ``silent``,
        ``output``.
    detail : the message, or the traceback.
    """

    seed: int
    kind: str
    change: str
    outcome: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.outcome not in ("read", "told", "refused")


@cache
def plug() -> tuple[np.ndarray, np.ndarray]:
    """Return a scan (40, 32, 36) of uint16 and its mask."""
    scan = draw_plug((80, 64, 72))[::2, ::2, ::2].astype(np.uint16) * 200
    scan += np.random.default_rng(0).integers(0, 200, scan.shape).astype(np.uint16)  # to fill the streams
    mask = np.zeros_like(scan)
    mask[:20] = np.where(scan[:20] > 25000, 255, 0)
    return scan, mask


def make_whole(folder: Path) -> None:
    """Write each kind of file, as a scan and as a mask, into folders of their own."""
    scan, mask = plug()
    for name, array in (("scan", scan), ("mask", mask)):
        for kind, make in ALL_MAKERS.items():
            place = folder / name / kind
            place.mkdir(parents=True)
            given = make(place, array)
            (place / ".given").write_text(given.name, encoding="utf-8")
        write_volume(folder / f"{name}.nrrd", array, 3.2)
    (folder / TRANSFORM).mkdir()
    write_transform(folder / TRANSFORM / "a.tfm", np.eye(4))
    save_bright_model(folder / MODEL, VOXEL_UM)


# ------------------------------------------------------------------------------------------- changes

Change = Callable[[np.random.Generator, bytearray], bytearray]


def _bits(rng: np.random.Generator, data: bytearray) -> bytearray:
    for _ in range(int(rng.integers(1, 5))):
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return data


def _bits_in_head(rng: np.random.Generator, data: bytearray) -> bytearray:
    for _ in range(int(rng.integers(1, 4))):
        data[rng.integers(min(len(data), _HEAD))] ^= 1 << int(rng.integers(8))
    return data


def _number(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Put a number that programs trip over anywhere, mostly into the head or the end."""
    place = rng.integers(3)
    reach = min(len(data), _HEAD)
    at = int(rng.integers(reach)) if place == 0 else len(data) - reach + int(rng.integers(reach))
    if place == 2:
        at = int(rng.integers(len(data)))
    order = "<>"[rng.integers(2)]
    if rng.random() < 0.3:
        new = struct.pack(order + "fd"[rng.integers(2)], _FLOATS[rng.integers(len(_FLOATS))])
    else:
        width = (1, 2, 4, 8)[rng.integers(4)]
        value = _VALUES[rng.integers(len(_VALUES))] % 256**width
        new = value.to_bytes(width, "little" if order == "<" else "big")
    data[at : at + len(new)] = new
    return data


def _cut(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def _cut_little(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data[: -int(rng.integers(1, 40))]


def _grown(rng: np.random.Generator, data: bytearray) -> bytearray:
    return data + rng.bytes(int(rng.integers(1, 5000)))


def _zeroed(rng: np.random.Generator, data: bytearray) -> bytearray:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 600))
    data[at : at + length] = bytes(len(data[at : at + length]))
    return data


def _left_out(rng: np.random.Generator, data: bytearray) -> bytearray:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 100))
    del data[at : at + length]
    return data


def _twice(rng: np.random.Generator, data: bytearray) -> bytearray:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 300))
    return data[:at] + data[at : at + length] + data[at:]


def _exchanged(rng: np.random.Generator, data: bytearray) -> bytearray:
    a, b = (int(rng.integers(len(data))) for _ in range(2))
    one, other = data[a : a + 64], data[b : b + 64]
    if len(one) == len(other) == 64 and abs(a - b) >= 64:
        data[a : a + 64], data[b : b + 64] = other, one
    return data


def _told_otherwise(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Change a number or a word of a text in the file."""
    number = rng.random() < 0.6
    pattern = rb"[-+]?\d[\d.eE+-]*" if number else rb"[A-Za-z]{2,}"
    found = list(re.finditer(pattern, bytes(data[:4000])))
    if not found:
        return _bits_in_head(rng, data)
    at = found[rng.integers(len(found))]
    choices = _NUMBERS if number else _WORDS
    return data[: at.start()] + choices[rng.integers(len(choices))] + data[at.end() :]


def _line_lost(rng: np.random.Generator, data: bytearray) -> bytearray:
    lines = bytes(data).split(b"\n")
    del lines[rng.integers(min(len(lines), 30))]
    return bytearray(b"\n".join(lines))


def _tag(rng: np.random.Generator, data: bytearray) -> bytearray:
    """Put a number that programs trip over into a tag of the first page of a classic TIFF."""
    if bytes(data[:4]) not in (b"II*\0", b"MM\0*"):
        return _number(rng, data)
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    entry = at + 2 + 12 * int(rng.integers(count))
    _, kind, length, value = struct.unpack_from(f"{order}HHII", data, entry)
    target = entry + 8
    if kind in (5, 12) or length > 2:  # its values lie elsewhere
        target = (entry + 8, value, value + 4)[rng.integers(3)]
    if rng.random() < 0.25:
        target = entry + (0, 2, 4)[rng.integers(3)]
    new = struct.pack(f"{order}I", _VALUES[rng.integers(len(_VALUES))] % 2**32)
    new = new if target != entry + 2 else new[:2]
    if target + len(new) <= len(data):
        data[target : target + len(new)] = new
    return data


CHANGES: dict[str, Change] = {
    "bits": _bits,
    "bits in the head": _bits_in_head,
    "a number": _number,
    "cut": _cut,
    "cut a little": _cut_little,
    "grown": _grown,
    "zeroed": _zeroed,
    "left out": _left_out,
    "twice": _twice,
    "exchanged": _exchanged,
    "told otherwise": _told_otherwise,
    "a line lost": _line_lost,
    "a tag": _tag,
}


def _streams(kind: str, path: Path) -> list[tuple[Path, int, int]]:
    """Return the file, begin and end of each stream with a checksum of a whole scan."""
    if kind in ("tiff deflate", "tiff tiled", "tiff, written", "bigtiff ome, written"):
        pages = list_pages(path).pages
        return [
            (path, at, at + n) for page in pages for at, n in zip(page.offsets, page.byte_counts, strict=True)
        ]
    marks = {"nii.gz": b"", "nrrd, written": b"\n\n", "mha, written": b"ElementDataFile = LOCAL\n"}
    if kind in marks:
        begin = path.read_bytes().index(marks[kind]) + len(marks[kind])
        return [(path, begin + (0 if path.suffix == ".mha" else 10), path.stat().st_size)]
    if kind in ("nhdr gzip", "mhd zlib"):
        data = next(one for one in path.parent.iterdir() if one.suffix in (".gz", ".zraw"))
        return [(data, 10 if data.suffix == ".gz" else 0, data.stat().st_size)]
    if kind == "hdf5 gzip":
        with h5py.File(path) as h5:
            found = h5["entry/data/volume"].id
            chunks = [found.get_chunk_info(k) for k in range(found.get_num_chunks())]
        return [(path, one.byte_offset, one.byte_offset + one.size) for one in chunks]
    if kind == "ome-zarr":
        blocks = [one for one in (path / "0").rglob("*") if one.is_file() and not one.name.startswith(".")]
        return [(one, 0, one.stat().st_size) for one in blocks]
    slices = path.glob("*.png") if kind == "slices png" else ()
    return [(one, 8, one.stat().st_size - 12) for one in slices]  # all but the mark and the empty end


def change_one(rng: np.random.Generator, kind: str, place: Path, given: Path) -> tuple[str, bool]:
    """Change one file below a folder; return what was done, and whether it was inside such a stream."""
    streams = _streams(kind, given)
    if streams and rng.random() < 0.35:
        path, begin, end = streams[rng.integers(len(streams))]
        data = bytearray(path.read_bytes())
        data[begin:end] = _bits(rng, data[begin:end])
        path.write_bytes(data)
        return f"bits in a stream of {path.name}", True
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != ".given")
    texts = [path for path in files if path.suffix in _TEXTS or path.name in _TEXTS]
    path = (
        texts[rng.integers(len(texts))] if texts and rng.random() < 0.4 else files[rng.integers(len(files))]
    )
    if len(files) > 2 and rng.random() < 0.15:
        other = files[rng.integers(len(files))]
        if rng.random() < 0.5:
            path.unlink()
            return f"{path.name} removed", False
        path.write_bytes(other.read_bytes())
        return f"{path.name} is {other.name}", False
    name = list(CHANGES)[rng.integers(len(CHANGES))]
    if path in texts and rng.random() < 0.6:
        name = "told otherwise"
    if path.suffix == ".tif" and rng.random() < 0.4:
        name = "a tag"
    path.write_bytes(CHANGES[name](rng, bytearray(path.read_bytes()) or bytearray(b"\0")))
    return f"{path.name}: {name}", False


# -------------------------------------------------------------------------------------------- trials


def trial(seed: int, whole: Path, folder: Path, commands: bool = True) -> Verdict:
    """Change one of the files that `make_whole` wrote, by a seed, and try it in an empty folder.

    It is given to one of the commands that read such a file; without `commands` it is read alone. Damage
    inside a stream with a checksum is always read, too.
    """
    rng = np.random.default_rng(seed)
    kind = KINDS[rng.integers(len(KINDS))]
    role = ("scan", "mask")[rng.integers(2)] if kind != TRANSFORM else ""
    place = folder / "in"
    shutil.copytree(whole / role / kind if role else whole / kind, place)
    given = place / ((place / ".given").read_text(encoding="utf-8") if role else "a.tfm")
    change, in_stream = change_one(rng, kind, place, given)
    told = f"{role} {change}".strip()
    (place / ".given").unlink(missing_ok=True)
    if in_stream or not commands:
        outcome, detail = _read(given, role, in_stream)
        if not commands or outcome in ("silent", "traceback"):
            return Verdict(seed, kind, told, outcome, detail)
    arguments = _command(rng, role, given, whole, folder / "out")
    outcome, detail = _as_commands_do(arguments, folder)
    return Verdict(seed, kind, f"{told}, {arguments[0]}", outcome, detail)


def _read(given: Path, role: str, in_stream: bool) -> tuple[str, str]:
    try:
        if not role:
            read_transform(given)
            return "read", ""
        volume = read_volume(given, mask=role == "mask")
    except TidemarkError as error:
        return "refused", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    same = np.array_equal(volume.array, plug()[role == "mask"])
    if in_stream and not same and not volume.notes:
        return "silent", "voxels differ from those that were written, without a word"
    return ("told", "; ".join(volume.notes)) if volume.notes else ("read", "")


def _command(rng: np.random.Generator, role: str, given: Path, whole: Path, out: Path) -> list[str]:
    """Return the words of a command that reads a file as what it is, and writes into a folder."""
    out.mkdir()
    scan, mask = (given if role == name else whole / f"{name}.nrrd" for name in ("scan", "mask"))
    initial = whole / TRANSFORM / "a.tfm" if role else given
    suffix = (".tif", ".nrrd", ".nii.gz", ".mha")[rng.integers(4)]
    segment = ["predict", scan, "-o", out / f"m{suffix}", "--weights", whole / MODEL, "--step", 8]
    segment += ["--stats", out / "s.json", "--surface", out / "h.tif"]
    prepare = ["preprocess", scan, "--mask", mask, "-o", out / "set", "--size", *SIZE, "--sample", "S_1"]
    score = ["metrics", mask, whole / "mask.nrrd", "--pad", 15, "--csv", out / "scores.csv"]
    align = ["register", whole / "scan.nrrd", scan, "-o", out / f"r{suffix}", "--mask", out / "m.tif"]
    align += ["--initial", initial, "--apply", "--threshold", 30000]
    choices = {"scan": (segment, segment, prepare, align), "mask": (prepare, score), "": (align,)}[role]
    return [str(word) for word in choices[rng.integers(len(choices))]]


def _as_commands_do(arguments: list[str], folder: Path) -> tuple[str, str]:
    """Run the program in this process; return what came of it and what it said."""
    out_text, err_text, argv = StringIO(), StringIO(), sys.argv
    sys.argv = ["tidemark", *arguments]
    try:
        with redirect_stdout(_Stream(out_text)), redirect_stderr(_Stream(err_text)):
            main()
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        sys.argv = argv
    told = err_text.getvalue()
    if code not in (0, 1):
        return "traceback", f"exit code {code}: {told[-1500:]}"
    if code == 1 and not told.strip():
        return "traceback", "exit code 1 without a word"
    left = [path for path in (folder / "out").rglob("*") if path.is_file()]
    partial = [*folder.rglob("*partial*"), *folder.rglob("*.old.*")]
    if partial or (left and code) or (not left and not code):
        return "output", f"code {code}, {[path.name for path in partial or left]}, {told[-300:]}"
    return "refused" if code else "told" if "warning" in told else "read", told[-300:]


class _Stream:
    """A text stream that takes `reconfigure`, as those of a process do."""

    def __init__(self, text: StringIO) -> None:
        self.text = text

    def reconfigure(self, **_: object) -> None:
        pass

    def __getattr__(self, name: str) -> object:
        return getattr(self.text, name)
