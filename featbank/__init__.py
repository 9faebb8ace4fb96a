"""A bank of frozen features, and everything that fills it."""

from featbank.bank.bank import Bank, Split
from featbank.bank.plan import BankPlan
from featbank.bank.shots import Shots
from featbank.bank.writer import BankWriter
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
