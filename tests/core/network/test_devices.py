"""How a processor's cores are shared."""

import torch

from tidemark_cli.core.network.devices import sharing_cores


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
