"""The errors: one family, and the name of a scan before what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemark_cli.core import errors
from tidemark_cli.core.errors import ContentError, FormatError, TidemarkError, about


def test_all_are_of_one_family() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) >= 10
    assert all(issubclass(kind, TidemarkError) for kind in kinds)


def test_the_name_of_the_scan_is_put_before_what_is_wrong_with_its_voxels() -> None:
    with pytest.raises(ContentError, match=r"^scan\.tif: it is constant$"), about(Path("scan.tif")):
        raise ContentError("it is constant")
    with pytest.raises(FormatError, match=r"^no TIFF$"), about(Path("scan.tif")):  # it names its file itself
        raise FormatError("no TIFF")
