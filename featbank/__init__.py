"""A bank of frozen features, and everything that fills it and fits heads on it.

What is named here is imported when it is first asked for, so that ``import featbank`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heads.lazy import lazy_names

if TYPE_CHECKING:
    from featbank.bank.bank import Bank, Split
    from featbank.bank.plan import BankPlan
    from featbank.bank.writer import BankWriter
    from featbank.comparing.compare import compare
    from featbank.errors import (
        DamagedError,
        FeatbankError,
        FeatbankWarning,
        IncompleteBankError,
        InputError,
        LockedError,
        LostRankError,
        MissingFileError,
        NotABankError,
        OutputExistsError,
        StaleError,
        StorageError,
        UsageError,
        WorkerError,
    )
    from featbank.front import evaluate, fit, mistakes, sweep
    from featbank.results.comparison import Comparison
    from featbank.results.fit import Evaluated, Fit, Fits
    from featbank.results.mistakes import ClassReport, Confused, Mistake, Mistakes
    from featbank.results.predictions import Prediction, Predictions
    from featbank.results.records import Calibration, Candidate, Result, Selection
    from featbank.results.sweep import Sweep
    from featbank.results.tables import Table
    from featbank.serving.exporting import export_model
    from featbank.serving.model import Model
    from heads.metrics.shots import Shots

# Where each public name is defined.
_HOMES = {
    "Bank": "featbank.bank.bank",
    "BankPlan": "featbank.bank.plan",
    "BankWriter": "featbank.bank.writer",
    "Calibration": "featbank.results.records",
    "Candidate": "featbank.results.records",
    "ClassReport": "featbank.results.mistakes",
    "Comparison": "featbank.results.comparison",
    "Confused": "featbank.results.mistakes",
    "DamagedError": "featbank.errors",
    "Evaluated": "featbank.results.fit",
    "FeatbankError": "featbank.errors",
    "FeatbankWarning": "featbank.errors",
    "Fit": "featbank.results.fit",
    "Fits": "featbank.results.fit",
    "IncompleteBankError": "featbank.errors",
    "InputError": "featbank.errors",
    "LockedError": "featbank.errors",
    "LostRankError": "featbank.errors",
    "MissingFileError": "featbank.errors",
    "Mistake": "featbank.results.mistakes",
    "Mistakes": "featbank.results.mistakes",
    "Model": "featbank.serving.model",
    "NotABankError": "featbank.errors",
    "OutputExistsError": "featbank.errors",
    "Prediction": "featbank.results.predictions",
    "Predictions": "featbank.results.predictions",
    "Result": "featbank.results.records",
    "Selection": "featbank.results.records",
    "Shots": "heads.metrics.shots",
    "Split": "featbank.bank.bank",
    "StaleError": "featbank.errors",
    "StorageError": "featbank.errors",
    "Sweep": "featbank.results.sweep",
    "Table": "featbank.results.tables",
    "UsageError": "featbank.errors",
    "WorkerError": "featbank.errors",
    "compare": "featbank.comparing.compare",
    "evaluate": "featbank.front",
    "export_model": "featbank.serving.exporting",
    "fit": "featbank.front",
    "mistakes": "featbank.front",
    "sweep": "featbank.front",
}

__all__ = [
    "Bank",
    "BankPlan",
    "BankWriter",
    "Calibration",
    "Candidate",
    "ClassReport",
    "Comparison",
    "Confused",
    "DamagedError",
    "Evaluated",
    "FeatbankError",
    "FeatbankWarning",
    "Fit",
    "Fits",
    "IncompleteBankError",
    "InputError",
    "LockedError",
    "LostRankError",
    "MissingFileError",
    "Mistake",
    "Mistakes",
    "Model",
    "NotABankError",
    "OutputExistsError",
    "Prediction",
    "Predictions",
    "Result",
    "Selection",
    "Shots",
    "Split",
    "StaleError",
    "StorageError",
    "Sweep",
    "Table",
    "UsageError",
    "WorkerError",
    "compare",
    "evaluate",
    "export_model",
    "fit",
    "mistakes",
    "sweep",
]


__getattr__, __dir__ = lazy_names(__name__, _HOMES)
