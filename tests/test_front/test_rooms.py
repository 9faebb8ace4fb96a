"""What the rooms behind the front door offer from Python, each by one call."""

import subprocess
import sys
from pathlib import Path

import pytest

from featbank.bank.bank import Bank
from featbank.bank.facts import bank_facts
from featbank.errors import UsageError
from featbank.stage1 import TrainConfig, train_by_name
from heads.lazy import lazy_names
from tests.banks import write_bank


def test_the_rooms_load_no_torch_until_a_name_is_asked_for() -> None:
    code = (
        "import sys, featbank.backbones, featbank.stage1, featbank.importing\n"
        "print('torch' in sys.modules, callable(featbank.backbones.build_model),\n"
        "      'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True", "True"]


def test_a_lazy_name_that_is_not_public_is_said_to_be_missing() -> None:
    find, names = lazy_names("featbank.room", {"Bank": "featbank.bank.bank"})

    assert find("Bank") is Bank
    assert names() == ["Bank"]
    with pytest.raises(AttributeError, match=r"module 'featbank.room' has no attribute 'Bnak'"):
        find("Bnak")


def test_the_facts_of_a_bank_count_classes_by_shot_group(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank")

    facts = bank_facts(bank)

    assert facts.splits["train"].rows == len(bank["train"])
    assert sum(facts.group_sizes.values()) == len(facts.class_names) == len(bank.class_counts)
    assert facts.to_json()["shots"] == {**bank.shots.to_json(), **facts.group_sizes}


def test_a_training_without_a_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set is named; give one, as digits-lt"):
        train_by_name(None, tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_training_by_name_records_the_settings_that_differ_from_the_recipe(tmp_path: Path) -> None:
    from featbank.runs.checkpoint import LAST, read_checkpoint
    from featbank.runtime.spec import Spec

    settings = {"epochs": 1, "warmup_epochs": 0, "seed": 3, "lr": None}

    train_by_name(Spec("digits-lt", {}), tmp_path / "run", settings, device="cpu")

    config = TrainConfig.from_json(read_checkpoint(tmp_path / "run" / LAST).record["config"])
    assert (config.backbone, config.epochs, config.seed, config.lr) == ("tiny-cnn", 1, 3, 0.05)
