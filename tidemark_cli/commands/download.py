"""``tidemark download``: the public dataset and sets of trained weights; without a name, what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from .. import console, core
from .options import Quiet

download = typer.Typer(
    invoke_without_command=True,
    help="Get the public dataset or trained weights, or list them.\n\n"
    "They are kept in the folder for downloads: TIDEMARK_HOME, or the user's cache.",
)

Offline = Annotated[
    bool, typer.Option("--offline", help="Do not touch the network; an error if that cannot be done.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]


@download.callback()
def list_all(context: typer.Context, as_json: AsJson = False) -> None:
    """Get the public dataset or trained weights; without a name, list what there is and verify it.

    Everything is kept in the folder that TIDEMARK_HOME names, else in the user's cache.
    """
    if context.invoked_subcommand:
        if as_json:
            raise typer.BadParameter(f"--json: write it behind {context.invoked_subcommand}.")
        return

    assets = core.downloads.dataset.list_assets(_feedback(quiet=as_json))
    if as_json:
        found = [vars(asset) | {"path": str(asset.path)} for asset in assets]
        known = {
            "dataset_url": core.downloads.dataset.DATASET_URL,
            "dataset_sha256": core.downloads.dataset.remembered_sha256(),
        }
        console.result_json({"home": str(core.cache.home()), **known, "assets": found})
        return
    sizes = [
        core.downloads.fetch.readable_size(asset.size_bytes) if asset.size_bytes else "" for asset in assets
    ]
    rows = [(a.kind, a.name, size, a.state, str(a.path)) for a, size in zip(assets, sizes, strict=True)]
    console.result_table(("what", "name", "size", "state", "where"), rows)
    console.notice("to get more: tidemark download dataset, tidemark download weights --url REGISTRY")


@download.command()
def dataset(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The dataset to make. Without it, one in the folder for downloads.",
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror of the archive, in place of the public host.")
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A copy of the archive on this machine."),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256",
            metavar="DIGITS",
            help="The SHA-256 that the archive must have. Without it, that of the first download.",
        ),
    ] = None,
    offline: Offline = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset in FOLDER, and nothing else.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Get the public dataset of the paper: 35 samples, scans and masks as slices.

    No checksum was ever published: the SHA-256 of the first download is
    printed and remembered, and a later archive that has another is
    refused. An interrupted download goes on where it ended.
    """
    if url is not None:
        if copy is not None:
            raise typer.BadParameter("--url and --from exclude each other.")
        _check_url(url)
    if sha256 is not None:
        sha256 = sha256.lower().removeprefix("sha256:")
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise typer.BadParameter("--sha256: expected 64 hexadecimal digits.")
    if copy is not None and not copy.is_file():
        raise typer.BadParameter(f"--from {copy}: expected a file, found none.")

    found = core.downloads.dataset.download_dataset(
        out,
        url=url or core.downloads.dataset.DATASET_URL,
        copy=copy,
        sha256=sha256,
        offline=offline,
        overwrite=overwrite,
        feedback=_feedback(quiet),
    )
    if as_json:
        console.result_json(vars(found) | {"folder": str(found.folder)})
    elif not quiet:
        console.result(f"{'dataset':13}{found.folder}{'' if found.fresh else ' (was there already)'}")
        console.result(f"{'samples':13}{found.samples}")
        console.result(f"{'SHA-256':13}{found.sha256} of the archive")


@download.command()
def weights(
    url: Annotated[
        str,
        typer.Option(
            metavar="REGISTRY",
            help="The registry.txt that `tidemark train` writes, or its folder: http(s) or on this machine. "
            "Any registry of pooch will do.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For `predict --weights NAME`. Without it, the registry's folder."),
    ] = None,
    offline: Offline = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights of that name.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Get trained weights, verified, to be used by name: `tidemark predict --weights NAME`."""
    if "://" in url:
        _check_url(url)
    if name is None and (name := core.downloads.weights.name_from(url)) is None:
        raise typer.BadParameter(f"--url {url}: no name can be made of it; give one with --name.")
    if not core.cache.is_name(name):
        raise typer.BadParameter(f"--name {name}: expected letters, digits, '.', '_' and '-'.")
    found = core.downloads.weights.download_weights(
        url, name, offline=offline, overwrite=overwrite, feedback=_feedback(quiet)
    )
    if as_json:
        console.result_json(vars(found) | {"name": name, "folder": str(found.folder)})
    elif not quiet:
        there = "" if found.fresh else " (was there already)"
        console.result(f"{'weights':13}{name}, {', '.join(found.models)}, in {found.folder}{there}")
        console.result(f"{'use':13}tidemark predict SCAN -o MASK --weights {name}")


def _check_url(url: str) -> None:

    if not core.downloads.fetch.is_url(url):
        raise typer.BadParameter(f"--url {url}: expected http://HOST/... or https://HOST/...")


def _feedback(quiet: bool) -> core.downloads.fetch.Feedback:

    return (
        core.downloads.fetch.SILENT
        if quiet
        else core.downloads.fetch.Feedback(console.notice, console.progress)
    )
