"""Parameters of heads on the command line: what cannot be is one line, and no bug."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.banks import write_bank

SPECS = [
    "tau:tau=1e39", "tau:tau=nan", "tau:tau=-1", "tau:tau=1000000000", "logit-adjust:tau=1e39",
    "joint:weight_decay=1e-50", "crt:weight_decay=1e-50", "crt:weight_decay=0",
    "crt:weight_decay=inf", "crt:solver=sgd,lr=inf", "crt:solver=sgd,lr=1e-50",
    "crt:solver=sgd,epochs=1e9", "crt:solver=sgd,batch=1e12", "crt:solver=sgd,per_class=1e9",
    "crt:solver=sgd,momentum=2", "crt:solver=sgd,seed=-1", "crt:beta=1,weighting=effective",
    "crt:q=1e39", "lws:weight_decay=1e39", "lws:solver=sgd,lr=1e39", "lws:views=1e9",
    "balanced-softmax:weight_decay=-0.1", "crt:solver=sgd,lr=[0.1,1e39]",
    "crt:weight_decay=[1e-50,0.1]", "tau:tau=true", "ncm:metric=1e39",
]  # fmt: skip


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parameters") / "it.zarr"
    write_bank(path)
    return path


@pytest.mark.parametrize("spec", SPECS)
def test_a_value_that_cannot_be_is_refused_in_one_line(
    bank: Path, tmp_path: Path, spec: str
) -> None:
    args = ["fit", str(bank), "--head", spec, "--out", str(tmp_path / "out"), "--quiet"]
    done = CliRunner().invoke(main, args)

    assert done.exit_code in (2, 3), done.output
    words = [line for line in done.output.splitlines() if line and not line.startswith("Usage")]
    assert len(words) <= 2, done.output
