import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from featbank.errors import UsageError
from featbank.runtime.spec import parse_range, parse_shots, parse_spec


@pytest.mark.parametrize(
    ("text", "name", "params"),
    [
        ("tau", "tau", {}),
        ("tau:tau=0.7,bias=keep", "tau", {"tau": "0.7", "bias": "keep"}),
        ("imagelist:root=/a b,train=t.txt", "imagelist", {"root": "/a b", "train": "t.txt"}),
        ("x:root='a,b:c',k=\"d=e\"", "x", {"root": "a,b:c", "k": "d=e"}),
        ("crt:lr=[0.1,0.2],q=0", "crt", {"lr": "[0.1,0.2]", "q": "0"}),
        ("x:root=C:/data,k=v", "x", {"root": "C:/data", "k": "v"}),
    ],
)
def test_specs_are_read_as_typed(text: str, name: str, params: dict[str, str]) -> None:
    spec = parse_spec(text)
    assert spec.name == name
    assert spec.params == params


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (":a=b", "is no spec"),
        ("tau:0.7", "'0.7' is not key=value"),
        ("tau:tau=1,tau=2", "tau is given twice"),
        ("x:a='b", "a quote ' is not closed"),
        ("nowhere.yaml", "nowhere.yaml does not exist"),
    ],
)
def test_what_is_no_spec_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_spec(text)


def test_a_spec_may_be_a_yaml_file(tmp_path: Path) -> None:
    file = tmp_path / "data.yaml"
    file.write_text("name: imagelist\nroot: /data/a,b\ntrain: train.txt\n")
    assert parse_spec(str(file)).params == {"root": "/data/a,b", "train": "train.txt"}
    file.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="must be a mapping with the key name"):
        parse_spec(str(file))
    file.write_text("a: [")
    with pytest.raises(UsageError, match="is not YAML"):
        parse_spec(str(file))


def test_ranges_and_thresholds() -> None:
    assert parse_range("0:2:0.1", 3) == [0, 2, 0.1]
    assert parse_shots("60,20") == (60, 20)
    assert parse_shots(None) is None
    for bad in ("0:2", "2:0:0.1", "0:2:0", "a:b:c", "0:inf:1", "0:2:nan"):
        with pytest.raises(UsageError, match="is not start:stop:step"):
            parse_range(bad, 3)
    with pytest.raises(UsageError, match="two whole numbers"):
        parse_shots("60")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a: [1, 2", "expected"),
        (b"\xff", "utf-8"),
        (b"a: 2026-99-99", "month"),
        (b"[" * 5000, "recursion|expected"),
        (b"x" * (1 << 20) + b"y", "larger than 1 MiB"),
        (None, "is a named pipe"),
    ],
)
def test_a_yaml_file_that_is_none_is_refused_in_one_line(
    tmp_path: Path, raw: bytes | None, said: str
) -> None:
    path = tmp_path / "x.yaml"
    os.mkfifo(path) if raw is None else path.write_bytes(raw)
    with pytest.raises(UsageError, match=said):
        parse_spec(str(path))
    done = CliRunner().invoke(main, ["train", "--config", str(path), "--out", str(tmp_path / "r")])
    assert done.exit_code == 2
    assert f"cannot read --config {path}" in " ".join(done.stderr.split())
