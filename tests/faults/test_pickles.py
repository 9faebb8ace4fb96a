"""Hostile pickles: whatever they ask to be run leaves no trace; honest ones are read."""

import builtins
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featbank import InputError
from featbank.backbones.foreign import load_plain
from featbank.files.plain_pickle import read_plain_pickle
from featbank.importing import import_features, read_source

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Call:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function: Callable[..., Any], *args: Any, state: Any = None) -> None:
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self.parts


class Built:
    """Pickles as an object whose state is set, by way of `object`."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return (object, (), self.state)


def payloads(canary: Path) -> dict[str, Any]:
    """Objects whose unpickling would make the canary file, each in another way."""
    touch, script = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    run = Call(os.system, touch)
    objects = np.empty(1, dtype=object)
    objects[0] = run
    return {
        "os.system": run,
        "eval": Call(eval, script),
        "exec": Call(exec, script),
        "open": Call(open, str(canary), "w"),
        "subprocess": Call(subprocess.Popen, ["touch", str(canary)]),
        "__import__": Call(builtins.__import__, "os"),
        "getattr": Call(getattr, "x", "upper"),
        "Path.touch": Call(Path.touch, canary),
        "np.save": Call(np.save, str(canary), [1]),
        "np.memmap": Call(np.memmap, str(canary), "u1", "w+", 0, (3,)),
        "np.load": Call(np.load, str(canary)),
        "in a list": [1, [2, (run,)]],
        "in a dict": {"a": {"b": run}},
        "as a key's value": {"train_features": np.zeros((2, 2)), "x": run},
        "in an object array": objects,
        "in an object dtype": np.array([{"a": run}], dtype=object),
        "in a record array": np.array([(1, run)], dtype=[("a", "i4"), ("b", "O")]),
        "in a state": Built({"x": run}),
        "torch rebuild": Call(torch._utils._rebuild_tensor, run, 0, (1,), (1,)),
        "torch load": Call(torch.load, str(canary)),
        "in a bytes subclass": Call(bytes, [run]),
    }


NAMES = sorted(payloads(Path("canary")))


def rows(hostile: Any) -> dict[str, Any]:
    return {"train_features": np.eye(2), "train_labels": np.arange(2), "more": hostile}


@pytest.fixture
def watched(tmp_path: Path) -> Any:
    """A canary, and no sound from whatever may start a process or a program."""
    heard: list[str] = []
    watching = [True]

    def hook(event: str, _args: Any) -> None:
        if watching[0] and event in {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"}:
            heard.append(event)

    sys.addaudithook(hook)
    canary = tmp_path / "canary"
    yield canary
    watching[0] = False
    assert heard == []
    assert not canary.exists()
    assert not Path(f"{canary}.npy").exists()


@pytest.mark.parametrize("name", NAMES)
def test_no_hostile_pickle_is_run(tmp_path: Path, watched: Path, name: str) -> None:
    for protocol in PROTOCOLS:
        for wrap in (rows, lambda hostile: hostile):
            file = tmp_path / "trainfeat_all.pkl"
            file.write_bytes(pickle.dumps(wrap(payloads(watched)[name]), protocol=protocol))
            with pytest.raises(InputError, match=f"^{file} (is a pickle of more|is no pickle|hol)"):
                read_plain_pickle(file)
            assert not watched.exists()


def test_a_hostile_pickle_by_any_opcode_is_not_run(tmp_path: Path, watched: Path) -> None:
    """Programs that no pickler writes: INST, OBJ, EXT1, and names with dots in them."""
    touch = f"touch {watched}".encode()
    programs = [
        b"(S'" + touch + b"'\nios\nsystem\n.",
        b"(cos\nsystem\nS'" + touch + b"'\no.",
        b"cos\nsystem\n(S'" + touch + b"'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0e__class__.mro\x93.",
        b"\x80\x04\x8c\x0anumpy.core\x8c\x19multiarray._reconstruct\x93.",
        b"cnumpy\n__builtins__\n.",
        b"c__main__\n__builtins__\n.",
        b"\x80\x02\x82\x01.",
        b"Pos.system\n.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntS'b'\ntR.",
        b"c_codecs\nencode\n(V" + touch + b"\nVrot13\ntR.",
    ]
    for program in programs:
        (tmp_path / "x.pkl").write_bytes(program)
        with pytest.raises(InputError, match="x.pkl (is a pickle|is no pickle|holds a)"):
            read_plain_pickle(tmp_path / "x.pkl")


def test_what_is_no_pickle_is_refused(tmp_path: Path) -> None:
    honest = pickle.dumps({"feats": np.eye(3)})
    cases = [b"", b"\x80", b"hello", b"\x00" * 50, honest[:-1], honest[:20], honest[5:]]
    for raw in cases:
        (tmp_path / "x.pkl").write_bytes(raw)
        with pytest.raises(InputError, match="x.pkl is no pickle of numpy arrays|more than arrays"):
            read_plain_pickle(tmp_path / "x.pkl")


def legacy(content: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    return buffer.getvalue()


def zipped(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_hostile_torch_file_is_run(
    tmp_path: Path,
    watched: Path,
    name: str,
    form: Callable[[Any], bytes],
    forced: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even where the environment asks torch to run pickles."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for suffix in (".pt", ".pth"):
        file = tmp_path / f"model{suffix}"
        file.write_bytes(form({"state_dict_best": payloads(watched)[name]}))
        with pytest.raises(InputError, match=f"^{file} (holds more than tensors|is no file of)"):
            read_source(file)
        assert not watched.exists()


def test_a_bare_pickle_named_as_a_torch_file_is_not_run(tmp_path: Path, watched: Path) -> None:
    for protocol in PROTOCOLS:
        file = tmp_path / "x.pth"
        file.write_bytes(pickle.dumps(Call(os.system, f"touch {watched}"), protocol=protocol))
        with pytest.raises(InputError, match="x.pth (holds more than tensors|is no file of)"):
            load_plain(file)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".safetensors"])
def test_a_pickle_under_another_name_is_not_run(tmp_path: Path, watched: Path, suffix: str) -> None:
    raw = pickle.dumps(Call(os.system, f"touch {watched}"))
    bodies = [raw]
    array = io.BytesIO()
    objects = np.empty(2, dtype=object)
    objects[:] = Call(os.system, f"touch {watched}")
    np.save(array, objects, allow_pickle=True)
    bodies.append(array.getvalue())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("train_features.npy", array.getvalue())
    bodies.append(archive.getvalue())
    for body in bodies:
        file = tmp_path / f"train_features{suffix}"
        file.write_bytes(body)
        with pytest.raises(InputError, match="cannot be read as|objects that are no text"):
            import_features(file, tmp_path / "bank")
        assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_honest_pickles_of_arrays_are_read(tmp_path: Path, protocol: int) -> None:
    content = {
        "C": np.arange(6.0).reshape(2, 3),
        "Fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "half": np.ones(3, np.float16),
        "strided": np.arange(12).reshape(3, 4)[:, ::2],
        "big-endian": np.arange(3, dtype=">f4"),
        "text": np.array(["a", "bé"]),
        "truth": np.array([True, False]),
        "list": [1, 2, 3],
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_plain_pickle(tmp_path / "x.pkl")
    assert found.keys() == content.keys()
    for name, want in content.items():
        np.testing.assert_array_equal(found[name], want)


def test_the_payloads_do_what_they_say_where_nothing_holds_them(tmp_path: Path) -> None:
    """The canary can sing: a plain unpickler runs these."""
    for name in ("os.system", "np.save", "in a list", "in an object array"):
        canary = tmp_path / name.replace(" ", "-")
        pickle.loads(pickle.dumps(payloads(canary)[name]))  # noqa: S301 - that is the point
        assert canary.exists() or Path(f"{canary}.npy").exists()
