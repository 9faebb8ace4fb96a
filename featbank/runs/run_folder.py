"""Where a training is written: in its own folder, or beside an older one until it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from featbank.errors import OutputExistsError, StaleError, StorageError
from featbank.files.atomic import remove_leftovers
from featbank.files.exchanging import recover
from featbank.files.folders import not_ours, remove_own
from featbank.files.lock import FolderLock
from featbank.files.marks import is_marked, work_path
from featbank.files.replacing import Replacement, refuse_alone, refuse_odd_folder, require_room
from featbank.runs.checkpoint import LAST, Checkpoint, read_checkpoint
from featbank.runs.run_files import FILES, own_run, partial_of, training_difference

__all__ = ["RunFolder"]


class RunFolder:
    """The folder of a training, locked by its first process; a context manager.

    The files are written in `work`. Where a training at `out` is replaced, that is a folder beside
    it until the last epoch is saved, and `finish` lets the two change places. Left before that, it
    stays where there is a checkpoint in it, and `begin` with `resume` goes on from there.
    """

    def __init__(self, out: Path) -> None:
        self.out = self.work = out
        self._fresh, self._locked = True, False
        self._stack = ExitStack()
        self._replacement: Replacement | None = None

    @property
    def beside(self) -> bool:
        """Whether the training is written beside the one that it replaces."""
        return self.work != self.out

    def join(self, *, beside: bool) -> None:
        """Take, in another process of the job, the folder that the first process writes to."""
        self.work = work_path(self.out) if beside else self.out

    def begin(
        self,
        identity: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        replace_in_place: bool = False,
    ) -> Checkpoint | None:
        """Return the checkpoint to go on from, or None for a new training. Changes nothing there.

        Parameters
        ----------
        identity : mapping
            Everything that decides the training's result, which a resumed one must have in common.
        resume : bool
            Go on from the last checkpoint. Where there is none a new training starts, so that one
            command line serves the first start and every restart.
        overwrite : bool
            Replace the training that is there when the new one is whole.
        replace_in_place : bool
            With `overwrite`, remove the old training first.

        Raises
        ------
        OutputExistsError
            The folder holds something, and neither `resume` nor `overwrite` was asked for; or a
            file of the user's has a name that the training needs.
        StaleError
            The run there was started with other settings or data; the message names the first.
        """
        refuse_alone(overwrite=overwrite, replace_in_place=replace_in_place)
        refuse_odd_folder(self.out)
        recover(self.out)
        there, waits = os.path.lexists(self.out), is_marked(work_path(self.out))
        ours = own_run(self.out) if there else None
        if (overwrite and ours is not None and not replace_in_place) or (waits and not there):
            found = _resumable(work_path(self.out)) if resume and waits else None
            same = found is not None and training_difference(found.record, identity) is None
            if same or not (resume and (self.out / LAST).is_file()):
                return self._begin_beside(found, identity)
        return self._begin_in_place(identity, resume=resume, overwrite=overwrite)

    def _begin_beside(
        self, found: Checkpoint | None, identity: Mapping[str, Any]
    ) -> Checkpoint | None:
        """Go on with the replacement of a training, or begin it."""
        self._refuse_taken_names()
        if found is not None:
            _require_same(work_path(self.out), found, identity)
        self._replacement = self._stack.enter_context(Replacement(self.out, own_run, keep=True))
        self.work, self._locked = self._replacement.work, True
        self._fresh = found is None
        if found is None:
            self._replacement.clear()
        return found

    def _begin_in_place(
        self, identity: Mapping[str, Any], *, resume: bool, overwrite: bool
    ) -> Checkpoint | None:
        """Go on with a training, or see that one may begin in the folder."""
        run = self.out
        if run.is_dir():
            self._lock()
        found = _resumable(run) if resume else None
        if found is not None:
            _require_same(run, found, identity)
            self._fresh = False
            return found
        if not (overwrite or (resume and _unfinished_start(run))):
            _refuse_full(run)
        self._refuse_taken_names()
        return None

    def _lock(self) -> None:
        self._stack.enter_context(FolderLock(self.out))
        self._locked = True

    def _refuse_taken_names(self) -> None:
        """Refuse to begin where a file of the user's has the name of one that a training writes."""
        ours = (own_run(self.out) or ()) if self.out.is_dir() else ()
        for name in FILES:
            if os.path.lexists(self.out / name) and Path(name) not in ours:
                raise not_ours(self.out / name)

    def make_ready(self, n_bytes: int) -> None:
        """Make the folder; take out what the new training replaces, once there is room for it.

        Parameters
        ----------
        n_bytes : int
            What the training takes at most.
        """
        if self._replacement is not None:
            require_room(self.out, n_bytes - _size(self.work))
        else:
            self.out.mkdir(parents=True, exist_ok=True)
            if not self._locked:
                self._lock()
            old = (own_run(self.out) or []) if self._fresh else []
            if old:
                _require_room_in(self.out, n_bytes, _size(self.out))
            remove_own(self.out, old)
        for name in FILES:
            remove_leftovers(self.work / name)

    def finish(self) -> None:
        """Put the training, which is whole, in its place."""
        if self._replacement is not None:
            self._replacement.finish()
            self.work = self.out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._replacement is not None:
            self._replacement.keep = (self._replacement.work / LAST).is_file()
        self._stack.__exit__(kind, error, trace)


def _resumable(run: Path) -> Checkpoint | None:
    """Return the state of a training that can be gone on with, where there is one."""
    return read_checkpoint(run / LAST) if (run / LAST).is_file() else None


def _require_same(run: Path, found: Checkpoint, identity: Mapping[str, Any]) -> None:
    """Refuse to go on with another training."""
    differs = training_difference(found.record, identity)
    if differs is not None:
        message = (
            f"cannot resume {run}: {differs}; resume with the old one, or train into another --out"
        )
        raise StaleError(message)


def _unfinished_start(run: Path) -> bool:
    """Tell whether a run ended before its first checkpoint, and may be started again."""
    if not run.is_dir():
        return True
    names = os.listdir(run)
    if all(partial_of(name) is not None for name in names):
        return True
    return LAST not in names and Path("run.json") in (own_run(run) or ())


def _refuse_full(run: Path) -> None:
    """Refuse a folder that holds something."""
    if not run.is_dir() or not any(run.iterdir()):
        return
    if own_run(run) is not None:
        message = f"{run} exists; choose another path for --out, or add --overwrite or --resume"
    else:
        message = (
            f"{run} exists and holds no training; choose another path for --out, or add "
            "--overwrite to train there, beside the files that are there"
        )
    raise OutputExistsError(message)


def _size(run: Path) -> int:
    """Return the bytes of a training's files."""
    return sum((run / name).lstat().st_size for name in own_run(run) or ())


def _require_room_in(run: Path, n_bytes: int, freed: int) -> None:
    """Refuse to replace a training in place where the disk cannot hold the new one."""
    free = shutil.disk_usage(run).free + freed
    if n_bytes > free:
        message = (
            f"{run} needs {n_bytes / 1e9:.3f} GB and the disk has {free / 1e9:.3f} GB once the old "
            "training is removed; make room, or choose another disk for --out"
        )
        raise StorageError(message)
