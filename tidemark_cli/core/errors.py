"""Everything tidemark raises on purpose; a message says what, what was expected and found, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class TidemarkError(Exception):
    """Base of all errors that end a command with one line and exit code 1."""


class ScanError(TidemarkError):
    """A scan that cannot be read or is not what it should be."""


class FormatError(ScanError):
    """A file of a foreign, truncated or unsupported format."""


class StackError(ScanError):
    """A folder of slices with gaps, mixed shapes or mixed names."""


class ContentError(ScanError):
    """Voxels that cannot be a scan: NaN, infinite, constant, colour, unclear axes."""


@contextmanager
def about(scan: Path) -> Iterator[None]:
    """Put the name of the scan before what is wrong with its voxels."""
    try:
        yield
    except ContentError as error:
        raise ContentError(f"{scan}: {error}") from error


class DatasetError(TidemarkError):
    """A dataset whose samples, slices, masks or grades are missing or do not fit each other."""


class ModelError(TidemarkError):
    """Weights that cannot be read or do not fit."""


class AssetError(TidemarkError):
    """A dataset or weights that cannot be fetched, verified or unpacked."""


class DeviceError(TidemarkError):
    """A compute device asked for by name that is not there."""


class ClusterError(TidemarkError):
    """A cluster that cannot be reached, or cannot do the work."""


class OutputError(TidemarkError):
    """A result that cannot be written, or would overwrite one."""
