"""What can go wrong, grouped by what the user does next.

::

    FeatbankError
    ├── InputError (also ValueError)              3  mend the input
    │   ├── MissingFileError (FileNotFoundError)     the path is not there
    │   └── OutputExistsError (FileExistsError)      choose another, or --overwrite
    ├── StorageError (also OSError)               3  free space, or mend the disk; run again
    ├── LockedError                               3  wait for the other writer
    ├── LostRankError                             3  a process of the job is gone: run again
    ├── WorkerError                               3  a process that loads images failed: use fewer
    ├── DamagedError                              4  verify, then extract again
    │   ├── NotABankError                            the path holds something else
    │   └── IncompleteBankError                      finish the extraction
    ├── UsageError                                2  say it otherwise
    └── StaleError                                5  made from something else: redo it

The number is the exit code of the command line.
"""

__all__ = [
    "DamagedError",
    "FeatbankError",
    "FeatbankWarning",
    "IncompleteBankError",
    "InputError",
    "LockedError",
    "LostRankError",
    "MissingFileError",
    "NotABankError",
    "OutputExistsError",
    "StaleError",
    "StorageError",
    "UsageError",
    "WorkerError",
]


class FeatbankError(Exception):
    """Base of every error that featbank raises on purpose."""

    exit_code = 3


class FeatbankWarning(UserWarning):
    """Something about the data that should be known; the work goes on."""


class InputError(FeatbankError, ValueError):
    """An argument, a file or a data set that cannot be used as it is."""


class UsageError(FeatbankError):
    """What was asked for contradicts itself, or names something that is not there."""

    exit_code = 2


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class OutputExistsError(InputError, FileExistsError):
    """The output exists already, and overwriting was not asked for."""


class StorageError(FeatbankError, OSError):
    """The disk is full, read-only or failing."""


class LockedError(FeatbankError):
    """Another process is writing the same bank."""


class LostRankError(FeatbankError):
    """A process of a job of several has ended, or is silent."""


class WorkerError(FeatbankError):
    """A process that loads images could not be started, has failed, or has ended."""


class DamagedError(FeatbankError):
    """A bank, checkpoint or head does not hold what its own record says."""

    exit_code = 4


class NotABankError(DamagedError):
    """The path is no featbank bank, or one of an unknown format."""


class IncompleteBankError(DamagedError):
    """The bank was never finished."""


class StaleError(FeatbankError):
    """What is there was made from something else than what is asked for."""

    exit_code = 5
