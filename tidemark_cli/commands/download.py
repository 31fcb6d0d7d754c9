"""``tidemark download``: the public dataset and trained weights, or a list of what is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .. import console, core
from .from_fields import HELP_OPTIONS, Group, Look, Without, add
from .options import Existing, Screen, entry

download = typer.Typer(
    cls=Group,
    invoke_without_command=True,
    context_settings=HELP_OPTIONS,
    help="Get the public dataset or trained weights; without a command, list and verify what is there.\n\n"
    "They are kept in the folder that TIDEMARK_HOME names, else in the user's cache.",
    epilog="Examples:\n\ntidemark download\n\ntidemark download dataset -o data/",
)


@download.callback()
def list_all(
    context: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as one line of JSON.")] = False,
) -> None:
    """List and verify what is there."""
    if context.invoked_subcommand:
        if as_json or quiet:
            raise typer.BadParameter(f"--quiet, --json: give them after {context.invoked_subcommand}.")
        return
    screen = Screen(quiet, as_json)
    downloads = core.downloads
    assets = downloads.dataset.list_assets(_feedback(quiet=as_json or quiet))
    found = [vars(asset) | {"path": str(asset.path)} for asset in assets]
    known = {
        "dataset_url": downloads.dataset.DATASET_URL,
        "dataset_sha256": downloads.dataset.remembered_sha256(),
    }
    if as_json:
        console.result_json({"home": str(core.cache.home()), **known, "assets": found})
    elif not quiet:
        sizes = [core.files.readable_size(one.size_bytes) if one.size_bytes else "" for one in assets]
        rows = [(a.kind, a.name, size, a.state, str(a.path)) for a, size in zip(assets, sizes, strict=True)]
        console.result_table(("what", "name", "size", "state", "where"), rows)
        screen.notice("get more with tidemark download dataset or tidemark download weights --url REGISTRY")


@dataclass(frozen=True)
class Archive:
    """Where the dataset is from, and where it goes.

    Attributes
    ----------
    out : the folder of the dataset. Default: one in the folder for downloads.
    url : a mirror of the archive, instead of the public host.
    copy : a copy of the archive on this machine.
    sha256 : the SHA-256 that the archive must have. Default: that of the first download.
    offline : do not use the network; fail if it is needed.
    """

    out: Annotated[Path | None, Look("FOLDER", short="o")] = None
    url: Annotated[str | None, Look("URL")] = None
    copy: Annotated[Path | None, Look("FILE", "from")] = None
    sha256: Annotated[str | None, Look("DIGITS")] = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.url is not None and self.copy is not None:
            raise ValueError("--url and --from exclude each other")
        if self.url is not None:
            _check_url(self.url)
        if self.sha256 is not None and not re.fullmatch("(?i)(sha256:)?[0-9a-f]{64}", self.sha256):
            raise ValueError("sha256: expected 64 hexadecimal digits")
        if self.copy is not None and not self.copy.is_file():
            raise ValueError(f"--from {self.copy}: expected a file, found none")


def dataset(
    archive: Archive, existing_dataset: Annotated[Existing, Without(["skip_existing"])], on_screen: Screen
) -> None:
    """Get the public dataset of the paper: 35 samples, scans and masks as slices.

    No checksum was ever published: the SHA-256 of the first download is
    printed and remembered, and a later archive with another is refused.
    An interrupted download is resumed.

    Examples
    --------
    tidemark download dataset -o data/
    tidemark download dataset --from PTA_dataset.tar.gz --offline
    """
    known = archive.sha256
    found = core.downloads.dataset.download_dataset(
        archive.out,
        url=archive.url or core.downloads.dataset.DATASET_URL,
        copy=archive.copy,
        sha256=known and known.lower().removeprefix("sha256:"),
        offline=archive.offline,
        overwrite=existing_dataset.overwrite,
        feedback=_feedback(on_screen.quiet),
    )
    on_screen.result(
        vars(found) | {"folder": str(found.folder)},
        [
            entry("dataset", f"{found.folder}{'' if found.fresh else ' (was there already)'}"),
            entry("samples", found.samples),
            entry("SHA-256", f"{found.sha256} of the archive"),
        ],
    )


@dataclass(frozen=True)
class Registry:
    """Where the weights are from, and their name.

    Attributes
    ----------
    url : the registry.txt that `tidemark train` writes, or its folder, at a URL or on this machine. Any
        registry in pooch's format will do.
    name : for `predict --weights NAME`. Default: the name of the registry's folder.
    offline : do not use the network; fail if it is needed.
    """

    url: Annotated[str, Look("REGISTRY")]
    name: Annotated[str | None, Look("NAME")] = None
    offline: bool = False

    def __post_init__(self) -> None:
        if "://" in self.url:
            _check_url(self.url)
        if self.known_as is None:
            raise ValueError(f"--url {self.url}: gives no name; give one with --name")
        if not core.cache.is_name(self.known_as):
            raise ValueError(f"--name {self.known_as}: expected letters, digits, '.', '_' and '-'")

    @property
    def known_as(self) -> str | None:
        """The name of the weights."""
        return core.downloads.weights.name_from(self.url) if self.name is None else self.name


def weights(
    registry: Registry, existing_weights: Annotated[Existing, Without(["skip_existing"])], on_screen: Screen
) -> None:
    """Get and verify trained weights, for `tidemark predict --weights NAME`.

    Examples
    --------
    tidemark download weights --url https://example.org/run/
    tidemark download weights --url /share/run/registry.txt --name ours
    """
    name = str(registry.known_as)
    found = core.downloads.weights.download_weights(
        registry.url,
        name,
        offline=registry.offline,
        overwrite=existing_weights.overwrite,
        feedback=_feedback(on_screen.quiet),
    )
    there = "" if found.fresh else " (was there already)"
    on_screen.result(
        vars(found) | {"name": name, "folder": str(found.folder)},
        [
            entry("weights", f"{name}, {', '.join(found.models)}, in {found.folder}{there}"),
            entry("use", f"tidemark predict SCAN -o MASK --weights {name}"),
        ],
    )


def _check_url(url: str) -> None:
    if not core.downloads.fetch.is_url(url):
        raise ValueError(f"--url {url}: expected http://HOST/... or https://HOST/...")


def _feedback(quiet: bool) -> core.downloads.fetch.Feedback:
    fetch = core.downloads.fetch
    return fetch.SILENT if quiet else fetch.Feedback(console.notice, console.progress)


for command in (dataset, weights):
    add(download, command)
