import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread(two_threads: None) -> None:
    """These networks are too small for two threads to do anything but wait for each other."""
    torch.set_num_threads(1)
