"""Weights by name: from a folder or a server, verified, read once, whole or absent."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.server import Site, serving, tree
from tidemark_cli.core.cache import installed_weights, weights_folder
from tidemark_cli.core.downloads.dataset import list_assets
from tidemark_cli.core.downloads.weights import download_weights, name_from
from tidemark_cli.core.errors import AssetError, ModelError, OutputError
from tidemark_cli.core.network.models import load_models, load_one

pytestmark = pytest.mark.usefixtures("home")


def registry_of(files: Mapping[str, bytes]) -> str:
    lines = (f"{name} sha256:{hashlib.sha256(content).hexdigest()}\n" for name, content in files.items())
    return "# as `train` writes it\n" + "".join(lines)


@pytest.fixture
def run(tmp_path: Path, model: Path) -> Path:
    """A run's folder with two folds and their registry."""
    folder = tmp_path / "run-7"
    folder.mkdir()
    files = {f"fold_{k}.safetensors": model.read_bytes() for k in range(2)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "registry.txt").write_text(registry_of(files))
    (folder / "log.csv").write_text("not in the registry")
    return folder


@pytest.fixture
def site(run: Path) -> Iterator[Site]:
    with serving() as site:
        site.files |= {f"/run-7/{path.name}": path.read_bytes() for path in run.iterdir()}
        yield site


INSTALLED = {f"weights/mine/{name}" for name in ("fold_0.safetensors", "fold_1.safetensors", "registry.txt")}


@pytest.mark.parametrize("place", ["run-7", "run-7/registry.txt"])
def test_from_a_folder(run: Path, home: Path, place: str) -> None:
    found = download_weights(str(run.parent / place), "mine", offline=True)
    assert (found.folder, found.fresh) == (home / "weights" / "mine", True)
    assert found.models == ["fold_0.safetensors", "fold_1.safetensors"]
    assert tree(home) == INSTALLED
    assert installed_weights() == ["mine"]
    assert weights_folder("mine") == found.folder
    assert len(load_models(Path("mine"))) == 2


@pytest.mark.parametrize("place", ["/run-7", "/run-7/", "/run-7/registry.txt", "/run-7/registry.txt?raw=1"])
def test_from_a_server(site: Site, home: Path, place: str) -> None:
    assert download_weights(site.url + place, "mine").fresh
    assert tree(home) == INSTALLED
    assert [path.partition("?")[0] for path, _ in site.asked] == [
        "/run-7/registry.txt",
        "/run-7/fold_0.safetensors",
        "/run-7/fold_1.safetensors",
    ]


def test_another_time_only_the_registry_is_fetched(site: Site, home: Path) -> None:
    download_weights(f"{site.url}/run-7", "mine")
    site.asked.clear()
    assert not download_weights(f"{site.url}/run-7", "mine").fresh
    assert site.asked == [("/run-7/registry.txt", None)]
    (home / "weights" / "mine" / "fold_1.safetensors").write_bytes(b"damaged")
    assert [asset.state for asset in list_assets() if asset.kind == "weights"] == ["damaged"]
    assert download_weights(f"{site.url}/run-7", "mine").fresh
    assert [(a.name, a.state) for a in list_assets() if a.kind == "weights"] == [("mine", "verified")]


def test_other_weights_of_that_name(run: Path, home: Path) -> None:
    download_weights(str(run), "mine")
    lines = (run / "registry.txt").read_text().splitlines()
    (run / "registry.txt").write_text("\n".join(lines[:2]))
    with pytest.raises(OutputError, match=r"holds other weights; use --overwrite, or another --name"):
        download_weights(str(run), "mine")
    assert len(load_models(Path("mine"))) == 2
    assert download_weights(str(run), "mine", overwrite=True).models == ["fold_0.safetensors"]
    assert len(load_models(Path("mine"))) == 1
    assert download_weights(str(run), "yours").fresh
    assert installed_weights() == ["mine", "yours"]


def test_an_interrupted_one_goes_on(site: Site, home: Path) -> None:
    site.faults["/run-7/fold_1.safetensors"] = ["cut", 404]
    with pytest.raises(AssetError, match=r"fold_1\.safetensors: the server answers 404"):
        download_weights(f"{site.url}/run-7", "mine")
    assert installed_weights() == []
    assert weights_folder("mine") is None
    site.asked.clear()
    download_weights(f"{site.url}/run-7", "mine")
    assert [(path, bool(asked)) for path, asked in site.asked] == [
        ("/run-7/registry.txt", False),
        ("/run-7/fold_1.safetensors", True),
    ]
    assert tree(home) == INSTALLED


def test_what_an_interrupted_one_left_is_not_installed(site: Site, home: Path) -> None:
    site.faults["/run-7/fold_1.safetensors"] = [404]
    with pytest.raises(AssetError):
        download_weights(f"{site.url}/run-7", "mine")
    fold = site.files["/run-7/fold_1.safetensors"]
    site.files["/run-7/registry.txt"] = registry_of({"fold_1.safetensors": fold}).encode()
    download_weights(f"{site.url}/run-7", "mine")
    assert tree(home) == INSTALLED - {"weights/mine/fold_0.safetensors"}


def test_a_wrong_checksum(site: Site, home: Path) -> None:
    site.files["/run-7/fold_1.safetensors"] += b"?"
    with pytest.raises(AssetError, match=r"fold_1\.safetensors: expected the SHA-256 .*; get it again"):
        download_weights(f"{site.url}/run-7", "mine")
    assert (installed_weights(), list((home / "weights").glob("*"))) == ([], [])


def test_no_model(site: Site, home: Path) -> None:
    site.files["/run-7/fold_0.safetensors"] = b"junk"
    site.files["/run-7/registry.txt"] = registry_of({"fold_0.safetensors": b"junk"}).encode()
    with pytest.raises(ModelError, match=r"not a whole \.safetensors"):
        download_weights(f"{site.url}/run-7", "mine")
    assert tree(home) == set()


REGISTRIES = {
    "web page": ("<!DOCTYPE html>\n<html>\n", "is not a registry"),
    "nothing": ("", "expected models"),
    "no models": (f"log.csv sha256:{64 * '0'}\n", "expected models"),
    "a way out": (f"../../evil.safetensors sha256:{64 * '0'}\n", "not trusted"),
    "absolute": (f"/tmp/evil.safetensors sha256:{64 * '0'}\n", "not trusted"),
    "hidden": (f".evil.safetensors sha256:{64 * '0'}\n", "not trusted"),
    "a file of this machine": (f"a.safetensors sha256:{64 * '0'} /etc/passwd\n", "expected http"),
    "a file URL": (f"a.safetensors sha256:{64 * '0'} file:///etc/passwd\n", "expected http"),
    "an odd URL": (f"a.safetensors sha256:{64 * '0'} http://[::1/a\n", "expected http"),
    "an odd sum": ("fold_0.safetensors rot13:0000\n", "not available"),
    "an empty sum": ('fold_0.safetensors ""\n', "expected the SHA-256"),
    "too large": ("#" * 2_000_000, "at most 1048576 bytes"),
}


@pytest.mark.parametrize(("text", "told"), REGISTRIES.values(), ids=REGISTRIES)
def test_hostile_registries(site: Site, home: Path, text: str, told: str) -> None:
    site.files["/run-7/registry.txt"] = text.encode()
    with pytest.raises(AssetError, match=told) as raised:
        download_weights(f"{site.url}/run-7", "mine")
    assert "\n" not in str(raised.value)
    assert not (home / "weights").exists()
    assert not list(home.parent.rglob("*evil*"))


def test_models_may_lie_elsewhere(site: Site, home: Path, run: Path) -> None:
    """The third word of a line is a URL, as pooch has it; md5 sums are verified as well."""
    fold = site.files.pop("/run-7/fold_0.safetensors")
    site.files["/store/content"] = fold
    line = f"fold_0.safetensors md5:{hashlib.md5(fold).hexdigest()} {site.url}/store/content\n"
    (run / "registry.txt").write_text(line)
    with pytest.raises(AssetError, match=r"offline: .*/store/content is on the network"):
        download_weights(str(run), "mine", offline=True)
    assert site.asked == []
    assert download_weights(str(run), "mine").models == ["fold_0.safetensors"]


def test_a_full_disk(run: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OutputError, match=r"fold_0\.safetensors could not be written: No space left"):
        download_weights(str(run), "mine")
    assert installed_weights() == []


def test_offline(site: Site, home: Path) -> None:
    with pytest.raises(AssetError, match=r"offline: .*name a folder on this machine"):
        download_weights(f"{site.url}/run-7", "mine", offline=True)
    assert site.asked == []


def test_a_folder_without_what_it_needs(run: Path, tmp_path: Path) -> None:
    (run / "fold_1.safetensors").unlink()
    with pytest.raises(AssetError, match=r"fold_1\.safetensors: expected the file that the registry lists"):
        download_weights(str(run), "mine")
    (run / "registry.txt").unlink()
    with pytest.raises(AssetError, match=r"registry\.txt: expected a registry.*No such file"):
        download_weights(str(run), "mine")
    assert installed_weights() == []


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        ("https://host/lab/run-7/registry.txt", "run-7"),
        ("https://host/lab/run-7/", "run-7"),
        ("https://host/lab/run-7?token=x", "run-7"),
        ("https://host/registry.txt", None),
        ("https://host", None),
        ("https://host/a%20b/registry.txt", None),
    ],
)
def test_names_from_urls(registry: str, name: str | None) -> None:
    assert name_from(registry) == name


def test_names_from_folders(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    for place in (".", "registry.txt", "../run-7", f"{run}/"):
        assert name_from(place) == "run-7"


def test_a_path_goes_before_a_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_weights(str(run), "run-7")
    (run / "fold_1.safetensors").unlink()
    assert len(load_models(Path("run-7"))) == 2
    monkeypatch.chdir(run.parent)
    assert len(load_models(Path("run-7"))) == 1


def test_default_is_the_model_inside_the_package_whatever_has_that_name(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download_weights(str(run), "default")
    shutil.copytree(run, run.parent / "default")
    monkeypatch.chdir(run.parent)
    (inside,), (named,) = load_models(None), load_models(Path("default"))
    assert named.sha256 == inside.sha256 == load_one("default").sha256
    assert len(load_models(run.parent / "default")) == 2


@pytest.mark.parametrize("name", ["yours", "../weights/mine", ".", "none.safetensors"])
def test_no_such_weights(run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="installed are: none"):
        load_models(Path("yours"))
    download_weights(str(run), "mine")
    download_weights(str(run), "others")
    shutil.rmtree(run)
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(ModelError, match=r"installed are: mine, others|found none"):
        load_models(Path(name))
