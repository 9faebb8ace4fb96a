from pathlib import Path

import numpy as np
import pytest

from featbank import Bank, OutputExistsError, schema
from featbank.exporting import export_npz
from featbank.importing import import_features
from tests.banks import DIM, write_bank


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_exported_imports_as_the_same_bank(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 8 * DIM * 4)
    bank = write_bank(tmp_path / "bank", dtype=dtype)
    file = export_npz(bank, tmp_path / "bank.npz")
    again = Bank.open(import_features(file, tmp_path / "again"))
    assert (again.dtype, again.shots, again.class_names) == (dtype, bank.shots, bank.class_names)
    for name in bank.splits:
        np.testing.assert_array_equal(again[name].read(), bank[name].read())
        np.testing.assert_array_equal(again[name].labels, bank[name].labels)
        assert list(again[name].ids) == list(bank[name].ids)
    assert bank.classifier is not None
    assert again.classifier is not None
    for ours, theirs in zip(bank.classifier, again.classifier, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_export_is_the_same_bytes_and_replaces_only_when_asked(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")
    first = export_npz(bank, tmp_path / "a.npz").read_bytes()
    assert export_npz(bank, tmp_path / "b.npz").read_bytes() == first
    with pytest.raises(OutputExistsError, match="a.npz exists; choose another path"):
        export_npz(bank, tmp_path / "a.npz")
    export_npz(bank, tmp_path / "a.npz", overwrite=True)
