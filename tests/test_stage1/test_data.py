import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from featbank.data import ImageData, ImageSplit, open_data
from featbank.errors import InputError, MissingFileError
from heads.metrics.shots import Shots
from tests.test_stage1.images import write_data, write_image

COUNTS = {"train": [4, 2, 1], "val": [1, 1, 1], "test": [2, 2, 2]}


def test_unknown_data_set_names_the_near_one() -> None:
    with pytest.raises(InputError, match=r"unknown data set 'digit-lt'; did you mean digits-lt\?"):
        open_data("digit-lt", {})


def test_unknown_parameter_names_the_near_one() -> None:
    with pytest.raises(InputError, match="'imbalence'; did you mean imbalance"):
        open_data("digits-lt", {"imbalence": 5})


def test_missing_parameters_are_named() -> None:
    with pytest.raises(InputError, match="imagelist needs root and train: write imagelist:root="):
        open_data("imagelist", {"val": "x"})


@pytest.mark.parametrize("value", ["many", "", None])
def test_a_parameter_that_is_no_number_is_named(value: object) -> None:
    with pytest.raises(InputError, match=r"imbalance=.* is not a number"):
        open_data("digits-lt", {"imbalance": value})


@pytest.mark.parametrize("value", ["1.5", "-1"])
def test_a_seed_that_is_no_whole_number_is_named(value: str) -> None:
    with pytest.raises(InputError, match=r"seed=.* is not a whole number"):
        open_data("digits-lt", {"seed": value})


class TestDigits:
    def test_the_long_tail_has_all_three_shot_groups_and_balanced_evaluation(self) -> None:
        data = open_data("digits-lt", {})

        assert data.counts.tolist() == [100, 71, 51, 36, 26, 18, 13, 9, 6, 5]
        assert data.shots == Shots(many_above=60, few_below=20)
        assert np.bincount(data.splits["val"].labels).tolist() == [24] * 10
        assert np.bincount(data.splits["test"].labels).tolist() == [50] * 10

    def test_no_image_is_in_two_splits(self) -> None:
        ids = [i for split in open_data("digits-lt", {}).splits.values() for i in split.ids]

        assert len(ids) == len(set(ids))

    def test_pixels_and_labels_are_the_digits_of_the_id(self) -> None:
        digits = load_digits()
        split = open_data("digits-lt", {"seed": 4}).splits["test"]

        for i in (0, 77, 499):
            row = int(split.ids[i])
            pixels = np.asarray(split.load(i))
            assert split.labels[i] == digits.target[row]
            assert pixels.shape == (8, 8, 3)
            np.testing.assert_allclose(pixels[:, :, 1] / 255 * 16, digits.images[row], atol=0.04)

    def test_it_is_the_same_twice_and_another_for_another_seed(self) -> None:
        one, two, other = (open_data("digits-lt", {"seed": s}) for s in ("0", 0, 1))

        for name in one.splits:
            assert one.splits[name].ids == two.splits[name].ids
            assert one.splits[name].ids != other.splits[name].ids

    def test_imbalance_changes_only_how_much_of_train_is_kept(self) -> None:
        mild, steep = (open_data("digits-lt", {"imbalance": i}) for i in (20, "50"))

        assert mild.splits["test"].ids == steep.splits["test"].ids
        assert set(steep.splits["train"].ids) < set(mild.splits["train"].ids)
        assert steep.counts[-1] == 2

    def test_thresholds_are_an_option(self) -> None:
        assert open_data("digits-lt", {"many": 50, "few": "10"}).shots == Shots(50, 10)


class TestImageList:
    def test_ids_are_the_lists_paths_verbatim(self, tmp_path: Path) -> None:
        data = open_data("imagelist", write_data(tmp_path, COUNTS))

        assert list(data.splits["train"].ids[:2]) == ["train set/c0_0.png", "train set/c0_1.jpg"]
        assert data.splits["test"].labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert data.counts.tolist() == [4, 2, 1]
        assert data.class_names == ["0", "1", "2"]
        assert data.splits["val"].load(2).mode == "RGB"
        assert data.splits["val"].load(2).size == (28, 24)

    def test_a_list_in_the_working_directory_goes_before_one_in_root(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        params = write_data(tmp_path / "root", COUNTS)
        (tmp_path / "val.txt").write_text("train set/c0_0.png 0\n")
        assert len(open_data("imagelist", params).splits["val"]) == 3

        monkeypatch.chdir(tmp_path)

        assert open_data("imagelist", params).splits["val"].ids == ["train set/c0_0.png"]

    def test_classes_come_from_a_file(self, tmp_path: Path) -> None:
        params = write_data(tmp_path, COUNTS)
        (tmp_path / "names.txt").write_text("cat\nbig dog\nowl\n")

        assert open_data("imagelist", {**params, "classes": "names.txt"}).class_names == [
            "cat",
            "big dog",
            "owl",
        ]

    def test_only_train_is_required_and_thresholds_travel(self, tmp_path: Path) -> None:
        params = write_data(tmp_path, {"train": [2, 1]})
        data = open_data("imagelist", {**params, "many": 1, "few": 1})

        assert list(data.splits) == ["train"]
        assert data.shots == Shots(1, 1)

    def test_missing_root_and_list_are_named(self, tmp_path: Path) -> None:
        params = write_data(tmp_path, COUNTS)

        with pytest.raises(MissingFileError, match="root 'nowhere' is not a folder"):
            open_data("imagelist", {**params, "root": "nowhere"})
        with pytest.raises(MissingFileError, match=r"val list 'none\.txt' is neither in"):
            open_data("imagelist", {**params, "val": "none.txt"})
        with pytest.raises(MissingFileError, match=r"classes file 'none\.txt' is neither in"):
            open_data("imagelist", {**params, "classes": "none.txt"})

    @pytest.mark.parametrize(
        ("lines", "reason"),
        [
            ("a.png 0\n\nb.png\n", "line 3: 'b.png' is not 'relative/path label'"),
            ("a.png 0\nb.png one\n", "line 2: 'b.png one' is not"),
            ("a.png 0.5\n", "line 1: 'a.png 0.5' is not"),
            ("7\n", "line 1: '7' is not"),
            ("a.png 0\nb.png 1_0\n", "line 2: 'b.png 1_0' is not"),
            ("\n \n", "names no image"),
            ("a.png 0\nb.png -1\n", r"line 2: label -1 is outside 0\.\.0 \(1 such lines\)"),
            ("a.png 0\nb.png 999999999\n", "line 2: label 999999999 means 1000000000 classes"),
            ("a.png 0\nb.png 0\nb.png 2\n", "no training images for class 1;"),
            ("a.png 0\nc.png 0\n", r"line 2: no image 'c.png' in root .* \(1 such lines\)"),
        ],
    )
    def test_bad_lists_name_the_file_and_the_line(
        self, tmp_path: Path, rng: np.random.Generator, lines: str, reason: str
    ) -> None:
        for name in ("a.png", "b.png"):
            write_image(tmp_path / name, 0, rng)
        (tmp_path / "train.txt").write_text(lines)

        with pytest.raises(InputError, match=reason) as caught:
            open_data("imagelist", {"root": str(tmp_path), "train": "train.txt"})

        assert "\n" not in str(caught.value)
        assert "train.txt" in str(caught.value) or "no training images" in reason

    def test_a_label_beyond_the_named_classes_is_refused(self, tmp_path: Path) -> None:
        params = write_data(tmp_path, COUNTS)
        (tmp_path / "names.txt").write_text("cat\ndog\n")

        with pytest.raises(InputError, match=r"train\.txt, line 7: label 2 is outside 0\.\.1"):
            open_data("imagelist", {**params, "classes": "names.txt"})

    def test_bytes_that_are_no_utf8_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_bytes(b"caf\xe9.png 0\n")

        with pytest.raises(
            InputError, match=r"train\.txt, line 1: b'caf\\xe9\.png 0' is not UTF-8"
        ):
            open_data("imagelist", {"root": str(tmp_path), "train": "train.txt"})

    def test_windows_line_ends_and_tabs_are_read(
        self, tmp_path: Path, rng: np.random.Generator
    ) -> None:
        write_image(tmp_path / "a b.png", 0, rng)
        (tmp_path / "train.txt").write_bytes(b"a b.png\t0\r\na b.png  0\r\n")
        data = open_data("imagelist", {"root": str(tmp_path), "train": "train.txt"})

        assert list(data.splits["train"].ids) == ["a b.png", "a b.png"]


def test_an_empty_split_is_refused() -> None:
    empty = ImageSplit([], np.array([], dtype=np.int64), None)  # type: ignore[arg-type]
    train = ImageSplit(["a"], np.array([0]), None)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="split 'val' is empty"):
        ImageData("mine", ["cat"], {"train": train, "val": empty})


def test_a_broken_link_is_a_missing_image(tmp_path: Path) -> None:
    params = write_data(tmp_path, COUNTS)
    target = tmp_path / "train set/c1_0.png"
    target.unlink()
    os.symlink(tmp_path / "gone", target)

    with pytest.raises(MissingFileError, match=r"train\.txt, line 5: no image"):
        open_data("imagelist", params)
