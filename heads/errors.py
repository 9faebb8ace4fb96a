"""What a head refuses on purpose, grouped by what the user does next.

::

    HeadsError
    ├── HeadInputError (also ValueError)               3  mend the argument
    │   └── HeadSpecError                                 mend the head's name or its parameters
    └── HeadFileError (also ValueError)                4  the file is damaged, or is no head
        └── MissingHeadError (also FileNotFoundError)  3  the path is not there

The number is the exit code of the command line. What scikit-learn's own checks refuse keeps
scikit-learn's words and types.
"""

from __future__ import annotations

__all__ = ["HeadFileError", "HeadInputError", "HeadSpecError", "HeadsError", "MissingHeadError"]


class HeadsError(Exception):
    """Base of every error that heads raises on purpose."""

    exit_code = 3


class HeadInputError(HeadsError, ValueError):
    """A parameter or an array that cannot be used as it is."""


class HeadSpecError(HeadInputError):
    """A head's name, or a parameter in its specification, that is not known or not allowed."""


class HeadFileError(HeadsError, ValueError):
    """A file that is no head, or does not hold what its own record says."""

    exit_code = 4


class MissingHeadError(HeadFileError, FileNotFoundError):
    """There is no file at the path."""

    exit_code = 3
