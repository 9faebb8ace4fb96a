import pytest
import torch


@pytest.fixture(autouse=True)
def two_threads() -> None:
    """These problems are tiny: one thread, so that on a busy machine none waits for another."""
    torch.set_num_threads(1)
