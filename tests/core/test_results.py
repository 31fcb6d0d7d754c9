"""Files of a result: each holds what it should, and all of them are written or none."""

from __future__ import annotations

import csv
import hashlib
import json
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.helpers import VOXEL_UM
from tidemark_cli.core.errors import OutputError
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.registration.transform import read_transform
from tidemark_cli.core.results import (
    check_images,
    read_stats,
    voxels_sha256,
    write_registration,
    write_segmentation,
    write_table,
)
from tidemark_cli.core.scans.volume import Volume, read_volume
from tidemark_cli.core.segmentation import DEFINITIONS, Segmentation, Settings, segment


@pytest.fixture(scope="module")
def volume(plug: np.ndarray) -> Volume:
    return Volume(plug, VOXEL_UM, "option", Path("S01_1.tif"))


@pytest.fixture(scope="module")
def found(volume: Volume, model: Path) -> Segmentation:
    return segment(volume, load_models(model), Settings(device="cpu", uncertainty=True))


def test_every_file_of_a_segmentation(tmp_path: Path, volume: Volume, found: Segmentation) -> None:
    names = {"mask": "m.nrrd", "probability": "p.tif", "uncertainty": "u.tif", "surface": "s.tif"}
    outputs = {what: tmp_path / name for what, name in (names | {"stats": "n.json"}).items()}
    write_segmentation(outputs, volume, found)
    for what in ("mask", "probability", "uncertainty"):
        np.testing.assert_array_equal(read_volume(outputs[what], mask=True).array, getattr(found, what))
    known = json.loads(json.dumps(found.stats))  # tuples are lists there
    assert read_stats(outputs["stats"]) == {key: known[key] for key in DEFINITIONS}


def test_where_one_file_fails_none_is_written(tmp_path: Path, volume: Volume, found: Segmentation) -> None:
    (tmp_path / "p.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"p\.tif"):
        write_segmentation({"mask": tmp_path / "m.tif", "probability": tmp_path / "p.tif"}, volume, found)
    assert [path.name for path in tmp_path.iterdir()] == ["p.tif"]


def test_a_volume_is_no_png(volume: Volume) -> None:
    check_images({"mask": Path("m.tif"), "preview": Path("p.png")}, volume)
    with pytest.raises(OutputError, match=r"m\.png: a PNG holds a 2D image"):
        check_images({"mask": Path("m.png")}, volume)


@pytest.mark.parametrize("content", [None, "damaged", "[1]"])
def test_numbers_that_cannot_be_read_are_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "n.json").write_text(content)
    assert not read_stats(tmp_path / "n.json")


def test_a_table_has_a_row_for_each_scan(tmp_path: Path) -> None:
    rows = [
        {"scan": "a", "state": "done", "confidence": 0.5},
        {"scan": "b", "state": "failed", "error": "no"},
    ]
    write_table(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["scan"], first["state"], first["confidence"], first["error"]) == ("a", "done", "0.5", "")
    assert (second["scan"], second["confidence"], second["error"]) == ("b", "", "no")
    assert "voxel_um" in first and "models" not in first


def test_files_of_a_registration(tmp_path: Path, volume: Volume) -> None:
    outputs = {what: tmp_path / f"{what}.tif" for what in ("registered", "mask")}
    outputs["transform"] = tmp_path / "t.tfm"
    write_registration(outputs, volume, volume.array, np.eye(4), found=None, level=150)
    np.testing.assert_array_equal(read_volume(outputs["registered"]).array, volume.array)
    assert np.mean((read_volume(outputs["mask"]).array > 0) != (volume.array > 150)) < 1e-2
    np.testing.assert_allclose(read_transform(outputs["transform"]), np.eye(4))


@pytest.mark.parametrize("kind", ["volume", "image", "empty"])
def test_the_numbers_are_as_their_schema_says(
    tmp_path: Path, plug: np.ndarray, model: Path, kind: str
) -> None:
    array = {"volume": plug, "image": plug[:, 32:33], "empty": np.minimum(plug, 120)}[kind]
    scan = Volume(array, VOXEL_UM, "option", Path("S01_1.tif"), is_image=kind == "image")
    found = segment(scan, load_models(model), Settings(device="cpu"))
    write_segmentation({"stats": tmp_path / "n.json"}, scan, found, command="tidemark predict S01_1.tif")
    stats = json.loads((tmp_path / "n.json").read_text(encoding="utf-8"))
    schema = json.loads((resources.files("tidemark_cli.core") / "stats.schema.json").read_text("utf-8"))
    jsonschema.validate(stats, schema)
    told = {name: one["description"] for name, one in schema["properties"].items()}
    assert DEFINITIONS.items() <= told.items()
    assert stats["scan_sha256"] == hashlib.sha256(array.tobytes()).hexdigest()
    assert stats["command"] == "tidemark predict S01_1.tif"
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(stats["date"])) < timedelta(minutes=5)


def test_the_checksum_of_voxels_knows_no_byte_order() -> None:
    array = np.arange(24, dtype=">u2").reshape(2, 3, 4)
    assert voxels_sha256(array) == voxels_sha256(array.astype("<u2"))
    assert voxels_sha256(array) != voxels_sha256(array[::-1])
