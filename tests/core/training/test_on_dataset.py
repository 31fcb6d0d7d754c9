"""Training on a dataset: runs that resume and unite to the same result, and that see no held-out subject."""

import csv
import hashlib
import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidemark_cli.core.data.dataset import find_samples, read_scan, write_sample
from tidemark_cli.core.errors import DatasetError, ModelError
from tidemark_cli.core.network.models import load_models
from tidemark_cli.core.network.unet import ModelInfo, UNet, load_model, save_model
from tidemark_cli.core.scans.volume import read_volume
from tidemark_cli.core.training import loop, on_dataset
from tidemark_cli.core.training.batches import augmented
from tidemark_cli.core.training.fold_run import reopen_run, start_run
from tidemark_cli.core.training.losses import Loss
from tidemark_cli.core.training.on_dataset import train_folds
from tidemark_cli.core.training.settings import FoldTraining
from tidemark_cli.core.training.slices import load_all
from tidemark_cli.core.training.validation import Checked

TINY = FoldTraining(
    epochs=2,
    batch=8,
    learning_rate=1e-2,
    width=4,
    depth=2,
    pad=(26, 20),
    crop=(16, 16),
    folds=2,
    step=2,
    seed=5,
)
SHAPE = (22, 17, 20)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Five samples of four subjects, bone bright at low Z; shapes that the network must pad, one smaller."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("A_1", "A_2", "B_1", "C_1", "D_1")):
        shape = SHAPE if number else (20, 15, 14)
        hard = np.arange(shape[0])[:, None, None] < rng.integers(7, 15, (1, *shape[1:]))
        grey = np.where(hard, 150, 60) + rng.normal(0, 8, shape)
        write_sample(folder, name, grey.clip(0, 255).astype(np.uint8), hard.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """The folder of an uninterrupted run."""
    return train(tmp_path_factory.mktemp("whole") / "run", dataset)


def train(folder, dataset, settings=TINY, resume=False, **options):
    torch.set_num_threads(1)
    run = reopen_run(folder, dataset) if resume else start_run(folder, dataset, settings)
    train_folds(run, load_all(run.samples), device="cpu", **options)
    return folder


def results(folder):
    """The bytes of every file of a run."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------- what a run is


def test_a_run_holds_all_that_is_promised(whole, dataset):
    content = json.loads((whole / "run.json").read_text())
    assert content["kind"] == "folds" and content["dataset"] == str(dataset) and content["threshold"] == 0.3
    assert content["settings"]["seed"] == 5 and content["settings"]["voxel_um"] == 3.2
    held_out = [one for fold in content["folds"] for one in fold["held_out"]]
    assert sorted(held_out) == ["A_1", "A_2", "B_1", "C_1", "D_1"]
    assert sorted(path.name for path in whole.iterdir()) == [
        "fold_0.safetensors", "fold_1.safetensors", "log.csv", "oof", "registry.txt", "run.json"
    ]  # fmt: skip
    rows = list(csv.DictReader((whole / "log.csv").read_text().splitlines()))
    assert [(row["fold"], row["epoch"]) for row in rows] == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    for line in (whole / "registry.txt").read_text().splitlines():
        name, digest = line.split(" ")
        assert digest == f"sha256:{hashlib.sha256((whole / name).read_bytes()).hexdigest()}"


def test_a_network_tells_how_it_came_about(whole):
    content = json.loads((whole / "run.json").read_text())
    for number, (net, fold) in enumerate(zip(load_models(whole), content["folds"], strict=True)):
        assert net.info.normalisation == {"kind": "standard", "mean": fold["mean"], "std": fold["sd"]}
        assert (net.info.threshold, net.info.loss, net.info.either_end) == (0.3, "bce-logjaccard", False)
        told = net.info.training
        assert (
            told["fold"] == number and told["held_out"] == fold["held_out"] and told["learning_rate"] == 0.01
        )
        losses = [row["validation_loss"] for row in told["log"]]
        assert losses[told["best_epoch"] - 1] == min(losses)


def test_every_sample_is_predicted_by_the_network_that_has_not_seen_its_subject(whole, dataset):
    content = json.loads((whole / "run.json").read_text())
    scans = {sample.sample_id: read_scan(sample) for sample in find_samples(dataset)}
    for number, fold in enumerate(content["folds"]):
        net = load_model(whole / f"fold_{number}.safetensors")
        for one in fold["held_out"]:
            found = read_volume(whole / "oof" / f"{one}.tif")
            assert found.array.dtype == np.uint8 and found.array.shape == scans[one].shape
            assert found.voxel_um == pytest.approx(3.2)
            expected = (
                probability(net, scans[one], 1).astype(int) + probability(net, scans[one], 2) + 1
            ) // 2
            assert len(np.unique(expected)) > 10
            assert np.abs(expected - found.array).max() <= 2  # batch norm is folded, bfloat16 may be used


def probability(net, scan, axis):
    """uint8 probability (Z, Y, X), slice by slice."""
    mean, sd = net.info.normalisation["mean"], net.info.normalisation["std"]
    slices = np.moveaxis(scan, axis, 0)
    sides = [-side % 4 for side in slices.shape[1:]]
    padded = np.pad(slices, ((0, 0), (0, sides[0]), (0, sides[1])))
    with torch.no_grad():
        logits = net(torch.from_numpy((padded[:, None] - np.float32(mean)) / np.float32(sd)))
    found = (logits.sigmoid() * 255).round()[:, 0, : slices.shape[1], : slices.shape[2]].byte().numpy()
    return np.moveaxis(found, 0, axis)


def test_it_learns(dataset, tmp_path):
    folder = train(tmp_path / "run", dataset, replace(TINY, epochs=16, step=1), only=0)
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert max(float(row["validation_iou"]) for row in rows) > 0.9


# -------------------------------------------------------------------------- what the settings decide


@pytest.mark.parametrize(
    ("name", "paper", "cost", "threshold"),
    # of probabilities 1/2 for targets 1 and 0: cross-entropy log 2, J 1.5 / 2.5
    [("bce", False, math.log(2), 0.5), ("bce-jaccard", True, (math.log(2) + 0.4) / 2, 0.3)],
    ids=["bce", "bce-jaccard, halved"],
)
def test_a_fold_is_trained_with_the_loss_and_the_optimiser_asked_for(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    paper: bool,
    cost: float,
    threshold: float,
) -> None:
    def step(
        net: UNet,
        optimiser: torch.optim.Optimizer,
        x: torch.Tensor,
        y: torch.Tensor,
        loss: Loss,
        *rest: Any,
    ) -> torch.Tensor:
        (group,) = optimiser.param_groups
        assert (group["lr"], group["weight_decay"], *rest[1:]) == (0.25, 0.125, None, False)
        return loss(torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]))

    monkeypatch.setattr(loop, "step", step)
    settings = replace(TINY, loss=name, paper=paper, learning_rate=0.25, weight_decay=0.125, epochs=1)
    info = load_model(train(tmp_path / "run", dataset, settings, only=0) / "fold_0.safetensors").info
    assert info.training["log"][0]["loss"] == pytest.approx(cost)
    assert info.threshold == threshold


def test_every_fold_and_epoch_is_augmented_by_chances_of_its_own(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*given: Any, chances: tuple[int, int, int], **rest: Any) -> Any:
        seen.append(chances)
        return augmented(*given, chances=chances, **rest)

    monkeypatch.setattr(on_dataset, "augmented", watched)
    train(tmp_path / "run", dataset)
    assert seen == [(5, 0, 1), (5, 0, 2), (5, 1, 1), (5, 1, 2)]


def test_every_seed_and_fold_starts_from_weights_of_its_own(dataset: Path, tmp_path: Path) -> None:
    still = replace(TINY, learning_rate=0.0, epochs=1)
    run = train(tmp_path / "run", dataset, still)
    other = train(tmp_path / "other", dataset, replace(still, seed=7), only=0)
    heads = [weights(folder, number)["head.weight"] for folder, number in ((run, 0), (run, 1), (other, 0))]
    assert len({tuple(head.flatten().tolist()) for head in heads}) == 3


def test_the_weights_kept_are_those_of_the_epoch_with_the_lowest_validation_loss(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, seen = iter((0.5, 0.3, 0.6, 0.4)), []

    def planned(net: UNet, *_: Any) -> dict[str, float]:
        seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return {"validation_loss": next(losses), "validation_iou": 0.0}

    monkeypatch.setattr(loop, "validate", planned)
    run = train(tmp_path / "run", dataset, replace(TINY, epochs=4), only=0)
    told = load_model(run / "fold_0.safetensors").info.training
    assert told["best_epoch"] == 2
    assert [same(weights(run), epoch) for epoch in seen] == [False, True, False, False]


# ------------------------------------------------------------------------------- stopped and resumed


class Stopped(Exception):
    pass


def stopping_at(call):
    calls = iter(range(1, 10_000))

    def progress(done, total, row):
        if next(calls) == call:
            raise Stopped

    return progress


def count_calls(folder, dataset):
    calls = []
    train(folder, dataset, progress=lambda *call: calls.append(call))
    return len(calls)


@pytest.mark.parametrize("checkpoint_s", [0.0, 600.0], ids=["after every step", "after every epoch"])
def test_a_resumed_run_has_the_same_files_bit_for_bit(whole, dataset, tmp_path, monkeypatch, checkpoint_s):
    monkeypatch.setattr(loop, "CHECKPOINT_S", checkpoint_s)
    calls = count_calls(tmp_path / "counted", dataset)
    moments = sorted(np.random.default_rng().integers(1, calls // 2, 4).tolist())
    with pytest.raises(Stopped):
        train(tmp_path / "run", dataset, progress=stopping_at(moments[0]))
    for moment in np.diff(moments, prepend=0)[1:]:
        with pytest.raises(Stopped):
            train(tmp_path / "run", dataset, resume=True, progress=stopping_at(max(1, moment)))
    train(tmp_path / "run", dataset, resume=True)
    assert results(tmp_path / "run") == results(whole), moments


def test_what_a_kill_left_half_written_is_removed(whole, dataset, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run/fold_1.safetensors").unlink()
    (tmp_path / "run/oof/A_1.tif").unlink()
    (tmp_path / "run/.0f0f.partial.fold_1.safetensors").write_bytes(b"half")
    (tmp_path / "run/oof/.0f0f.partial.A_1.tif").write_bytes(b"half")
    train(tmp_path / "run", dataset, resume=True)
    assert results(tmp_path / "run") == results(whole)


def test_folds_trained_apart_are_a_whole_run(whole, dataset, tmp_path):
    for number in range(2):
        train(tmp_path / str(number), dataset, only=number)
        assert reopen_run(tmp_path / str(number), dataset).missing == [1 - number]
    union = tmp_path / "0"
    shutil.copytree(tmp_path / "1", union, dirs_exist_ok=True)
    run = reopen_run(union, dataset)
    assert run.missing == [] and len(load_models(union)) == 2
    train(union, dataset, resume=True)
    assert results(union) == results(whole)


def test_a_fold_of_another_run_is_refused(whole, dataset, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    other = train(tmp_path / "other", dataset, replace(TINY, seed=6), only=1)
    shutil.copy(other / "fold_1.safetensors", tmp_path / "run")
    with pytest.raises(ModelError, match=r"fold_1.*another run"):
        reopen_run(tmp_path / "run", dataset)


def test_a_damaged_checkpoint_is_named(dataset, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path / "run", dataset, progress=stopping_at(1))
    (tmp_path / "run/fold_0.checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"fold_0\.checkpoint\.pt"):
        train(tmp_path / "run", dataset, resume=True)


# --------------------------------------------------------------------------------------------- leaks


def changed(dataset, folder, sample_id):
    """Copy a dataset with the grey levels of one sample inverted."""
    shutil.copytree(dataset, folder)
    for path in (folder / "pre_processed" / sample_id / "imgs").glob("*.png"):
        path.unlink()
    samples = {sample.sample_id: sample for sample in find_samples(dataset)}
    scan, mask = 255 - read_scan(samples[sample_id]), np.zeros(read_scan(samples[sample_id]).shape, np.uint8)
    write_sample(folder, sample_id, scan, mask, overwrite=True)
    return folder


def weights(folder, number=0):
    return load_model(folder / f"fold_{number}.safetensors").state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def statistics(folder):
    return [(fold["mean"], fold["sd"]) for fold in json.loads((folder / "run.json").read_text())["folds"]]


def test_a_held_out_sample_changes_nothing_in_its_fold(whole, dataset, tmp_path):
    fold = json.loads((whole / "run.json").read_text())["folds"][0]
    altered = changed(dataset, tmp_path / "held_out", fold["held_out"][0])
    found = train(tmp_path / "run", altered, only=0)
    assert statistics(found)[0] == statistics(whole)[0]
    assert same(weights(found), weights(whole))
    altered = changed(dataset, tmp_path / "trained_on", fold["training"][0])
    found = train(tmp_path / "other", altered, only=0)
    assert statistics(found)[0] != statistics(whole)[0]
    assert not same(weights(found), weights(whole))


def test_a_validation_sample_changes_the_validation_loss_alone(
    whole: Path, dataset: Path, tmp_path: Path
) -> None:
    fold = json.loads((whole / "run.json").read_text())["folds"][0]
    altered = changed(dataset, tmp_path / "validation", fold["validation"][0])
    run = train(tmp_path / "run", altered, only=0)
    found, known = (
        list(csv.DictReader((folder / "log.csv").read_text().splitlines()))[:2] for folder in (run, whole)
    )
    assert [row["loss"] for row in found] == [row["loss"] for row in known]
    assert all(
        one["validation_loss"] != other["validation_loss"] for one, other in zip(found, known, strict=True)
    )


def test_the_paper_s_choices_do_look_at_the_held_out_fold(dataset, tmp_path):
    settings = replace(TINY, paper=True, epochs=1)
    before = train(tmp_path / "before", dataset, settings, only=0)
    content = json.loads((before / "run.json").read_text())
    fold = content["folds"][0]
    assert fold["validation"] == fold["held_out"] and len(set(statistics(before))) == 1
    after = train(
        tmp_path / "after", changed(dataset, tmp_path / "changed", fold["held_out"][0]), settings, only=0
    )
    assert statistics(after)[0] != statistics(before)[0]


def plant(whole, folder, **parts):
    """Copy a run and write something else into its first fold."""
    shutil.copytree(whole, folder)
    content = json.loads((folder / "run.json").read_text())
    content["folds"][0] |= parts
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def test_a_planted_leak_stops_a_run(whole, dataset, tmp_path):
    fold = json.loads((whole / "run.json").read_text())["folds"][0]
    leak = plant(whole, tmp_path / "subject", training=[*fold["training"], fold["held_out"][0]])
    with pytest.raises(DatasetError, match="share the subject"):
        reopen_run(leak, dataset)
    everything = np.concatenate([read_scan(sample).ravel() for sample in find_samples(dataset)])
    leak = plant(whole, tmp_path / "mean", mean=float(everything.mean()), sd=float(everything.std()))
    for path in leak.glob("fold_*"):
        path.unlink()
    with pytest.raises(DatasetError, match="fold 0 had mean"):
        train(leak, dataset, resume=True)


# ------------------------------------------------------------------------------------ starts and ends


def test_a_model_to_start_from_brings_its_weights_and_normalisation(dataset, tmp_path):
    normalisation = {"kind": "window", "low": 1.0, "high": 99.0}
    start = tmp_path / "start.safetensors"
    save_model(start, UNet(ModelInfo(width=4, depth=2, normalisation=normalisation)))
    settings = replace(TINY, init=str(start), learning_rate=0.0, weight_decay=0.0, epochs=1)
    found = load_model(train(tmp_path / "run", dataset, settings, only=0) / "fold_0.safetensors")
    assert torch.equal(found.state_dict()["head.weight"], load_model(start).state_dict()["head.weight"])
    assert found.info.normalisation == normalisation and found.info.training["init"] == "start.safetensors"
    start.unlink()
    train(tmp_path / "run", dataset, resume=True, only=0)  # its fold is trained
    with pytest.raises(ModelError, match=r"start\.safetensors"):
        train(tmp_path / "run", dataset, resume=True, only=1)


def test_validation_slices_are_seen_in_the_grey_levels_of_their_own_scan(
    whole: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(net: UNet, batches: Iterable[Checked], *_: Any) -> dict[str, float]:
        seen.extend(x for x, *_ in batches)
        return {"validation_loss": 0.0, "validation_iou": 0.0}

    monkeypatch.setattr(loop, "validate", watched)
    start = tmp_path / "start.safetensors"
    window = {"kind": "window", "low": 1.0, "high": 99.0}
    save_model(start, UNet(ModelInfo(width=4, depth=2, normalisation=window)))
    fold = json.loads((whole / "run.json").read_text())["folds"][0]
    brighter = changed(dataset, tmp_path / "brighter", fold["validation"][0])
    train(tmp_path / "run", brighter, replace(TINY, init=str(start), epochs=1), only=0)
    assert np.percentile(torch.cat(seen), 99) == pytest.approx(1, abs=0.1)  # 1.3 in those of another


def test_a_start_that_has_seen_the_subjects_is_told(dataset, whole, tmp_path):
    run = start_run(tmp_path / "run", dataset, replace(TINY, init=str(whole / "fold_0.safetensors")))
    known = load_model(whole / "fold_0.safetensors").info.training
    seen = sorted({one.split("_")[0] for part in ("training", "validation") for one in known[part]})
    assert (
        f"fold_0.safetensors was trained on the subject(s) {', '.join(seen)} of this dataset" in run.notes[-1]
    )
    save_model(tmp_path / "stranger.safetensors", UNet(ModelInfo(width=4, depth=2)))
    stranger = replace(TINY, init=str(tmp_path / "stranger.safetensors"))
    assert not any("warning" in note for note in start_run(tmp_path / "other", dataset, stranger).notes)


def test_a_training_that_diverges_says_so(dataset, tmp_path):
    with pytest.raises(ModelError, match="--learning-rate"):
        train(tmp_path / "run", dataset, replace(TINY, learning_rate=1e30))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_no_folder_s_name_is_in_a_network(whole, dataset):
    header = (whole / "fold_0.safetensors").read_bytes()[:5000]
    assert b"held_out" in header and str(Path(dataset).parent).encode() not in header
