"""The same id or image in two splits, or under two labels, is counted and named."""

import hashlib

import numpy as np
import pytest

from featbank import InputError
from featbank.bank.leakage import Leak, find_leaks, refuse_leaks
from featbank.bank.rows import SplitRows


def rows(ids: list[str], labels: list[int] | None = None) -> SplitRows:
    return SplitRows(ids, np.array([0] * len(ids) if labels is None else labels))


def digests(*contents: str) -> np.ndarray:
    raw = b"".join(hashlib.sha256(each.encode()).digest() for each in contents)
    return np.frombuffer(raw, np.uint8).reshape(-1, 32)


def test_nothing_shared_is_no_leak() -> None:
    found = find_leaks({"train": rows(["a", "b", "b"]), "test": rows(["c", "d"])})
    assert found == []
    refuse_leaks(found)


def test_ids_in_two_splits_are_counted_for_each_pair() -> None:
    splits = {"train": rows(list("abcde")), "val": rows(["x", "a"]), "test": rows(["d", "c", "x"])}
    assert find_leaks(splits) == [
        Leak("id", ("train", "val"), 1, "a", "a"),
        Leak("id", ("train", "test"), 2, "c", "c"),
        Leak("id", ("val", "test"), 1, "x", "x"),
    ]


def test_an_id_with_two_labels_in_one_split_is_found() -> None:
    splits = {"train": rows(["a", "b", "a", "b", "b"], [0, 1, 2, 1, 0])}
    assert find_leaks(splits) == [Leak("id", ("train",), 2, "a", "a")]


@pytest.mark.parametrize("order", [lambda n: range(n), lambda n: range(n - 1, -1, -1)])
def test_row_numbers_are_no_names(order: object) -> None:
    splits = {name: rows([str(i) for i in order(4)]) for name in ("train", "test")}  # type: ignore[operator]
    assert find_leaks(splits) == []


def test_copies_of_an_image_under_another_name_are_found_by_their_digests() -> None:
    splits = {"train": rows(["a", "b", "c"], [0, 1, 2]), "test": rows(["d", "e"])}
    images = {"train": digests("cat", "dog", "cat"), "test": digests("eel", "dog")}
    assert find_leaks(splits, images) == [
        Leak("image", ("train", "test"), 1, "b", "e"),
        Leak("image", ("train",), 1, "a", "c"),
    ]


def test_what_ids_have_told_is_not_told_again() -> None:
    splits = {"train": rows(["a", "b"]), "test": rows(["a", "c"])}
    images = {"train": digests("cat", "dog"), "test": digests("cat", "eel")}
    assert [leak.what for leak in find_leaks(splits, images)] == ["id"]


def test_refusing_names_every_leak() -> None:
    splits = {"train": rows(["a/1.jpg", "b", "b"], [0, 1, 0]), "test": rows(["a/1.jpg"])}
    with pytest.raises(
        InputError, match=r"1 id is both in 'train' and in 'test' \(as 'a/1.jpg'\);"
    ):
        refuse_leaks(find_leaks(splits))
    with pytest.raises(InputError, match="1 id is in 'train' twice, with two labels"):
        refuse_leaks(find_leaks(splits))
