"""A bank of frozen features, and everything that fills it."""

from featbank.bank import Bank, Split
from featbank.errors import (
    DamagedError,
    FeatbankError,
    IncompleteBankError,
    InputError,
    LockedError,
    MissingFileError,
    NotABankError,
    OutputExistsError,
    StaleError,
    StorageError,
)
from featbank.plan import BankPlan
from featbank.shots import Shots
from featbank.writer import BankWriter

__all__ = [
    "Bank",
    "BankPlan",
    "BankWriter",
    "DamagedError",
    "FeatbankError",
    "IncompleteBankError",
    "InputError",
    "LockedError",
    "MissingFileError",
    "NotABankError",
    "OutputExistsError",
    "Shots",
    "Split",
    "StaleError",
    "StorageError",
]
