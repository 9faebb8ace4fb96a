"""Processes that make batches ahead of time; when one of them fails, the work ends and says why.

Each process has a pair of pipes of its own, and shares no thread, lock or memory with the others.
So nothing depends on the room in ``/dev/shm``; whatever goes wrong while a batch is made or sent
can be caught and told; and a process that is killed, even within a message, ends its pipe.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featbank.errors import FeatbankError, WorkerError
from featbank.runtime.interruption import SIGNALS

__all__ = ["Make", "Workers"]

Make = Callable[[Any], tuple[Any, Tensor]]
"""A function that makes of a job (plain values) a small record and a float32 tensor."""

REMEDY = "load images without processes of their own (--workers 0), or with fewer of them"
# The size of a pipe where the system allows it, so that large batches pass in few reads.
PIPE_BYTES = 2**20


class _Failure(NamedTuple):
    """Why there is no batch: one line, a traceback, and the class of the error where it is ours."""

    kind: type[FeatbankError] | None
    line: str
    trace: str


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    jobs: Connection
    results: Connection


class Workers:
    """`count` processes that run `make`, started when they are first needed.

    With `pin` the tensors lie in pinned memory, from which copies to a GPU are faster.
    """

    def __init__(self, make: Make, count: int, *, pin: bool = False) -> None:
        self.make, self.count, self.pin = make, count, pin
        self._workers: list[_Worker] = []
        self._feeder: Thread | None = None
        self._stopped = False
        self._at_exit = Finalize(self, _kill, args=(self._workers,), exitpriority=10)

    def run(self, jobs: Sequence[Any]) -> Iterator[tuple[Any, Tensor]]:
        """Yield what `make` returns for each job, in order.

        Raises
        ------
        WorkerError
            A process could not be started, could not make or send a batch, or has ended.
        FeatbankError
            What `make` raised, where it is one.
        """
        left = len(jobs)
        if left:
            self._start()
        made: queue.Queue[Any] = queue.Queue(maxsize=self.count)
        device = torch.cuda.current_device() if self.pin and torch.cuda.is_available() else None
        feeder = Thread(target=self._feed, args=(jobs, made, device), daemon=True)
        try:
            if left:
                self._feeder = feeder
                feeder.start()
            while left:
                found = made.get()
                if isinstance(found, BaseException):
                    raise found
                left -= 1
                yield found
        finally:
            if left:  # the caller has stopped early, so nobody will take what is being made
                self.close()

    def close(self) -> None:
        """End the processes at once; that is safe, as they only read. `run` starts new ones."""
        self._stopped = True
        _kill(self._workers)
        if self._feeder is not None:
            self._feeder.join(timeout=5)
            if self._feeder.is_alive():
                return  # it still reads from a pipe, whose number must not be given to another
        for worker in self._workers:
            worker.jobs.close()
            worker.results.close()
        self._workers.clear()

    def _start(self) -> None:
        """Start the processes; raise `WorkerError` where that fails."""
        self._stopped = False
        try:
            while len(self._workers) < self.count:
                self._workers.append(_started(self.make))
        except Exception as error:
            self.close()
            message = (
                f"cannot start process {len(self._workers) + 1} of {self.count} that load images: "
                f"{_line(error)}; {REMEDY}"
            )
            raise WorkerError(message) from error

    def _feed(self, jobs: Sequence[Any], made: queue.Queue[Any], device: int | None) -> None:
        """Give out jobs and collect what is made of them, until all are done or one fails.

        A process gets a new job when its last batch has been read: neither side can then wait for
        the other to read first.
        """
        try:
            if device is not None:
                torch.cuda.set_device(device)
            for worker, job in zip(self._workers, jobs, strict=False):
                _give(worker, job)
            for place in range(len(jobs)):
                worker = self._workers[place % self.count]
                found = _receive(worker, self.pin)
                if place + self.count < len(jobs):
                    _give(worker, jobs[place + self.count])
                self._put(made, found)
        except BaseException as error:  # noqa: BLE001 - is raised where the batch is waited for
            self._put(made, error)

    def _put(self, made: queue.Queue[Any], found: Any) -> None:
        while not self._stopped:
            with suppress(queue.Full):
                made.put(found, timeout=0.2)
                return


def _started(make: Make) -> _Worker:
    """Start one process.

    Only it keeps the far ends of its pipes, so that they end with it.
    """
    context = multiprocessing.get_context()
    job_reader, jobs = context.Pipe(duplex=False)
    results, result_writer = context.Pipe(duplex=False)
    with suppress(OSError, AttributeError):
        fcntl.fcntl(result_writer.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    process = context.Process(target=_work, args=(make, job_reader, result_writer), daemon=True)
    try:
        with job_reader, result_writer, _signals_held():
            process.start()
    except BaseException:
        jobs.close()
        results.close()
        raise
    return _Worker(process, jobs, results)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back while a process starts, which must not act on one as its parent would."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()


def _give(worker: _Worker, job: Any) -> None:
    """Send a job."""
    try:
        worker.jobs.send(job)
    except ConnectionError as error:
        raise _lost(worker) from error


def _receive(worker: _Worker, pin: bool) -> tuple[Any, Tensor]:
    """Return what a process made of its job, read straight into a tensor."""
    try:
        found = worker.results.recv()
        if isinstance(found, _Failure):
            raise _refusal(found)
        record, shape = found
        tensor = torch.empty(shape, dtype=torch.float32, pin_memory=pin)
        left = _bytes(tensor.numpy())
        while left:
            count = os.readv(worker.results.fileno(), [left])
            if count == 0:
                raise EOFError
            left = left[count:]
    except (EOFError, ConnectionError) as error:
        raise _lost(worker) from error
    return record, tensor


def _bytes(array: NDArray[np.float32]) -> memoryview:
    """Return the bytes of an array, to be read or written in place."""
    return array.reshape(-1).view(np.uint8).data


def _refusal(failure: _Failure) -> FeatbankError:
    """Return the error that a process has sent."""
    if failure.kind is not None:
        error = failure.kind(failure.line)
    else:
        message = f"a process that loads images failed: {failure.line}; {REMEDY}"
        error = WorkerError(message)
    error.add_note(failure.trace)
    return error


def _lost(worker: _Worker) -> WorkerError:
    """Say how a process ended whose pipe has ended."""
    worker.process.join(timeout=5)
    code = worker.process.exitcode
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        if -code in (signal.SIGKILL, signal.SIGBUS):
            how += ", as happens where memory runs out (of a container: docker --memory)"
    else:
        how = f"ended with exit code {code}"
    return WorkerError(f"a process that loads images {how}; {REMEDY}")


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _work(make: Make, jobs: Connection, results: Connection) -> None:
    """Make batches until the parent has left."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    with suppress(EOFError, ConnectionError):
        while True:
            _answer(make, jobs.recv(), results)


def _end_with_the_parent() -> None:
    """Wait for the parent's end; a worker in the midst of an image would not notice it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(make: Make, job: Any, results: Connection) -> None:
    """Send what is made of a job, or why there is nothing."""
    try:
        record, tensor = make(job)
        array = tensor.contiguous().numpy()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
        results.send(_failure(error))
        return
    try:
        results.send((record, array.shape))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the record cannot be sent; no byte of it was
        results.send(_failure(error))
        return
    left = _bytes(array)
    while left:
        left = left[os.write(results.fileno(), left) :]


def _failure(error: Exception) -> _Failure:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, FeatbankError):
        return _Failure(type(error), str(error), trace)
    return _Failure(None, _line(error), trace)
