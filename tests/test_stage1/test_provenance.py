import copy
from typing import Any

import numpy as np
import pytest
import torch

from featbank.bank.provenance_diff import INFORMATIVE, differences, flattened
from featbank.bank.rows import SplitRows, rows_digest
from featbank.data import open_data
from featbank.data.provenance import (
    data_record,
    tensors_digest,
    versions,
)

RECORD: dict[str, Any] = {
    "checkpoint": "c",
    "layer": "fc",
    "backbone": "resnet18",
    "transform": {"spec": "s", "fingerprint": "f"},
    "data": {"name": "n", "lists": {"train": "t", "val": "v"}},
    "dtype": "float16",
    "autocast": "none",
    "device": "cpu",
    "recipe": {"sampler": "class", "seed": 0},
    "versions": {"torch": "2"},
}
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def test_a_digest_depends_on_contents_not_on_order_layout_or_place() -> None:
    turned = {"b": torch.tensor(3), "a": torch.arange(6.0).reshape(3, 2).T.reshape(2, 3)}
    turned["a"].copy_(TENSORS["a"])
    strided = {**TENSORS, "a": torch.stack([TENSORS["a"]] * 2, dim=2)[:, :, 0]}

    assert tensors_digest(turned) == tensors_digest(TENSORS)
    assert tensors_digest(strided) == tensors_digest(TENSORS)


@pytest.mark.parametrize(
    "other",
    [
        {**TENSORS, "a": torch.nextafter(TENSORS["a"], torch.tensor(9.0))},
        {**TENSORS, "a": TENSORS["a"].reshape(3, 2)},
        {**TENSORS, "a": TENSORS["a"].view(torch.int32)},
        {"a": TENSORS["a"], "c": TENSORS["b"]},
        {"a": TENSORS["a"]},
    ],
    ids=["one ulp", "shape", "dtype", "name", "one less"],
)
def test_any_change_of_a_tensor_is_another_digest(other: dict[str, torch.Tensor]) -> None:
    assert tensors_digest(other) != tensors_digest(TENSORS)


def test_a_splits_digest_is_of_ids_and_labels_in_order() -> None:
    def digest(ids: list[str], labels: list[int]) -> str:
        return rows_digest(SplitRows(ids, np.array(labels)))

    want = digest(["a", "b"], [0, 1])

    assert digest(["a", "b"], [0, 1]) == want
    assert len({want, digest(["b", "a"], [1, 0]), digest(["a", "b"], [0, 0])}) == 3
    assert digest(['a","b'], [0]) != digest(["a", "b"], [0, 0])


def test_a_data_set_is_recorded_without_its_path() -> None:
    record = data_record(open_data("digits-lt", {}))

    assert record["name"] == "digits-lt"
    assert list(record["lists"]) == ["train", "val", "test"]


@pytest.mark.parametrize("field", flattened(RECORD))
def test_every_field_of_the_identity_is_compared(field: str) -> None:
    changed = copy.deepcopy(RECORD)
    *path, last = field.split(".")
    inner = changed
    for name in path:
        inner = inner[name]
    inner[last] = "changed"

    want = [] if field.split(".")[0] in INFORMATIVE else [field]
    assert differences(RECORD, changed) == want
    del inner[last]
    assert differences(RECORD, changed) == want
    assert differences(changed, RECORD) == want


def test_versions_name_what_a_features_bits_depend_on() -> None:
    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["numpy"] == np.__version__
    assert {"torchvision", "timm", "pillow"} <= set(found)
    assert "unknown" not in found.values()
