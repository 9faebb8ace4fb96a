"""A bank of frozen features, and everything that fills it."""

from featbank.bank import Bank, Split
from featbank.errors import (
    DamagedError,
    FeatbankError,
    IncompleteBankError,
    InputError,
    MissingFileError,
    NotABankError,
    OutputExistsError,
    StaleError,
)
from featbank.shots import Shots
from featbank.writer import BankWriter

__all__ = [
    "Bank",
    "BankWriter",
    "DamagedError",
    "FeatbankError",
    "IncompleteBankError",
    "InputError",
    "MissingFileError",
    "NotABankError",
    "OutputExistsError",
    "Shots",
    "Split",
    "StaleError",
]
