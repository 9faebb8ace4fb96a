from pathlib import Path

import pytest
import torch

from tests.test_serving.served import Kit, foreign, trained

# Heads that are linear once they are folded, and those that divide features by their norms.
LINEAR = ("tau", "logit-adjust", "crt", "lws", "balanced-softmax", "ncm:transform=un")
NORMALISING = ("ncm:transform=un,metric=cosine", "ncm", "ncm:transform=l2n,metric=dot")


@pytest.fixture(autouse=True)
def one_thread(two_threads: None) -> None:
    """These networks are too small for two threads to do anything but wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A training of a network of featbank's own."""
    return trained(tmp_path_factory.mktemp("cnn"), ("joint", *LINEAR, *NORMALISING))


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A small network of timm's."""
    return foreign(tmp_path_factory.mktemp("resnet"), "test_resnet", (*LINEAR, *NORMALISING))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Two classes."""
    return trained(tmp_path_factory.mktemp("two"), ("joint", "crt", "ncm"), ("no", "yes"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, resnet: Kit) -> dict[str, Path]:
    """The network of timm's with its cRT head in each format."""
    root = tmp_path_factory.mktemp("exported")
    return {form: resnet.export("crt", form, root / form) for form in ("timm", "onnx", "pt2")}
