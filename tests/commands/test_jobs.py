"""Which scans a command takes, and which files it writes for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from tidemark_cli.commands.jobs import Job, described, named_file, plan_jobs, scans_in
from tidemark_cli.commands.options import Existing
from tidemark_cli.core.errors import FormatError, OutputError
from tidemark_cli.core.scans.volume import Volume

SUFFIXES = {"mask": (".tif", ".nrrd"), "stats": (".json",)}


@pytest.fixture
def scans(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_text("scan")
    return tmp_path / "a.tif", tmp_path / "b.tif"


def test_one_scan_and_its_files(scans: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "m.nrrd"
    (job,) = plan_jobs(scans[:1], {"mask": str(target), "stats": None}, SUFFIXES, Existing())
    assert job == Job(scans[0], {"mask": target})
    assert (job.names, job.known) == (("a.tif",), {"scan": str(scans[0])})
    assert job.written == {"mask": str(target)}


def test_of_several_scans_an_output_is_a_folder(scans: tuple[Path, Path], tmp_path: Path) -> None:
    jobs = plan_jobs(scans, {"mask": f"{tmp_path}/new/", "stats": f"{tmp_path}/new/"}, SUFFIXES, Existing())
    assert [job.outputs["mask"].name for job in jobs] == ["a.tif", "b.tif"]
    assert [job.outputs["stats"].name for job in jobs] == ["a.json", "b.json"]
    assert (tmp_path / "new").is_dir()
    with pytest.raises(typer.BadParameter, match=r"--out m\.tif: expected a folder"):
        plan_jobs(scans, {"mask": "m.tif"}, SUFFIXES, Existing())


def test_what_exists_is_refused_kept_or_replaced(scans: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "m.tif").write_text("mine")
    targets = {"mask": str(tmp_path / "m.tif"), "stats": str(tmp_path / "s.json")}
    with pytest.raises(OutputError, match="--overwrite"):
        plan_jobs(scans[:1], targets, SUFFIXES, Existing())
    (job,) = plan_jobs(scans[:1], targets, SUFFIXES, Existing(skip_existing=True))
    assert (list(job.outputs), list(job.kept)) == (["stats"], ["mask"])
    (job,) = plan_jobs(scans[:1], targets, SUFFIXES, Existing(overwrite=True))
    assert list(job.outputs) == ["mask", "stats"]


def test_a_scan_is_never_replaced(scans: tuple[Path, Path]) -> None:
    with pytest.raises(typer.BadParameter, match=r"--out of .*a\.tif would replace the scan"):
        plan_jobs(scans[:1], {"mask": str(scans[0])}, SUFFIXES, Existing(overwrite=True))


def test_a_folder_without_scans(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="found no scan in it"):
        scans_in(tmp_path)


@pytest.mark.parametrize("name", ["m.xyz", "m", ".tif"])
def test_a_file_of_another_kind(name: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"expected a name ending in \.tif, \.nrrd"):
        named_file("--out", name, SUFFIXES["mask"])


def test_a_scan_is_described() -> None:
    volume = Volume(np.zeros((2, 3, 4), np.uint8), 3.2, "option", Path("a.tif"))
    assert described(volume) == "2 x 3 x 4 voxels (Z x Y x X) of 3.2 µm"
