"""The errors that featbank raises, grouped by what their reader does next.

::

    FeatbankError
    ├── InputError (also ValueError)              3  correct the input
    │   ├── MissingFileError (FileNotFoundError)     the path is not there
    │   └── OutputExistsError (FileExistsError)      choose another, or --overwrite
    ├── StorageError (also OSError)               3  free space, or mend the disk; run again
    ├── LockedError                               3  wait for the other writer
    ├── LostRankError                             3  run the job again: a process of it is gone
    ├── WorkerError                               3  load images with fewer processes
    ├── DamagedError                              4  verify, then extract again
    │   ├── NotABankError                            the path holds something else
    │   └── IncompleteBankError                      finish the extraction
    ├── UsageError                                2  correct the options
    └── StaleError                                5  made from other inputs: make it again

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
    """The options contradict each other, or name something that is not there."""

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
    """The result that exists was made from other inputs than those that are asked for."""

    exit_code = 5
