"""Which device is taken, and how a processor's cores are shared."""

import pytest
import torch

from tidemark_cli.core.errors import DeviceError
from tidemark_cli.core.network.devices import choose_device, sharing_cores

CPU = torch.device("cpu")


def test_half_of_the_threads_are_left_to_others_on_a_processor_and_taken_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(6)
        with sharing_cores(torch.device("cpu")):
            assert torch.get_num_threads() == 3
        assert torch.get_num_threads() == 6
        with sharing_cores(torch.device("cuda")):
            assert torch.get_num_threads() == 6
        torch.set_num_threads(1)
        with sharing_cores(torch.device("cpu")):
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "taken"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, taken: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == taken


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "mps:1", "CPU"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_asked_for_by_name_and_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=name):
        choose_device(name)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="found 2 CUDA devices"):
        choose_device("cuda:2")
