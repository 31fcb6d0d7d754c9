"""Which scans belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from tidemark_cli.commands.pairs import pair_scans
from tidemark_cli.core.errors import ScanError
from tidemark_cli.core.scans.volume import write_volume


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    grey = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    for stain in ("PTA", "CA4"):
        (tmp_path / stain).mkdir()
        for name in ("S01_1", "S02_1"):
            write_volume(tmp_path / stain / f"{name}_{stain}.tif", grey, 3.2)
    return tmp_path / "PTA", tmp_path / "CA4"


def test_a_scan_and_another(folders: tuple[Path, Path]) -> None:
    one, other = folders[0] / "S01_1_PTA.tif", folders[1] / "S02_1_CA4.tif"
    assert pair_scans([one], "CA4", other) == [(one, other)]


def test_folders_are_matched_by_the_names_up_to_the_stain(folders: tuple[Path, Path]) -> None:
    pairs = pair_scans(folders[:1], "CA4", folders[1])
    assert [(a.name, b.name) for a, b in pairs] == [
        ("S01_1_PTA.tif", "S01_1_CA4.tif"),
        ("S02_1_PTA.tif", "S02_1_CA4.tif"),
    ]


def test_what_has_no_partner(folders: tuple[Path, Path]) -> None:
    (folders[1] / "S02_1_CA4.tif").unlink()
    with pytest.raises(ScanError, match=r"S02_1_PTA\.tif: expected one scan .* found none"):
        pair_scans(folders[:1], "CA4", folders[1])
    with pytest.raises(ScanError, match="nowhere does not exist"):
        pair_scans(folders[:1], "CA4", folders[1] / "nowhere")
    with pytest.raises(typer.BadParameter, match="expected a folder of scans"):
        pair_scans(folders[:1], "CA4", folders[1] / "S01_1_CA4.tif")
