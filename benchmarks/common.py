"""What the benchmarks share: their options, the timing of works in turn, and their one table.

    python -m benchmarks.NAME [--small | --full] [--device cpu] [--out FILE.md]

A benchmark is a function ``measure(shape, device)`` that yields `Row` after `Row`. What is
compared runs in turn, round by round, so that a drift of the machine meets all of it, and a ratio
is the median of the rounds' ratios to the peer. A benchmark asserts that both sides computed the
same, or that ours is as good as the peer: a wrong result ends it with an error, not with a table.
"""

from __future__ import annotations

import argparse
import inspect
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

__all__ = ["Row", "Work", "as_numpy", "in_turn", "rows_of", "run", "same", "timed"]

Work = Callable[[], Any]
S = TypeVar("S")

HEADER = ("what", "shape", "median, s", "peer", "time / peer's (min to max)", "reached")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what : str
        What was timed.
    shape : str
        The size of its input.
    seconds : tuple of float
        Its time in each round.
    peer : str
        What it is compared with.
    against : tuple of float
        The peer's time in each round.
    reached : str
        What came out, so that a time never stands alone.
    """

    what: str
    shape: str
    seconds: tuple[float, ...]
    peer: str
    against: tuple[float, ...]
    reached: str = ""

    def line(self) -> str:
        """Return the row in Markdown; ratios are round by round where both ran as often."""
        together = len(self.seconds) == len(self.against)
        ratios = np.array(self.seconds) / (self.against if together else np.median(self.against))
        spread = f" ({ratios.min():.3g} to {ratios.max():.3g})" if len(ratios) > 1 else ""
        median, ratio = f"{np.median(self.seconds):.3g}", f"{np.median(ratios):.3g}{spread}"
        return joined((self.what, self.shape, median, self.peer, ratio, self.reached))


def joined(cells: Sequence[str]) -> str:
    """Return cells as a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rows_of(
    shape: str,
    peer: str,
    seconds: Mapping[str, Sequence[float]],
    reached: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """Yield a row for each work that was timed beside a peer, which is one of them.

    Parameters
    ----------
    shape : str
        The size of the input.
    peer : str
        The name of the work that all are compared with.
    seconds : mapping
        From a work's name to its time in each round.
    reached : mapping, optional
        From a work's name to what came out.
    """
    for what, each in seconds.items():
        yield Row(
            what, shape, tuple(each), peer, tuple(seconds[peer]), (reached or {}).get(what, "")
        )


def timed(work: Work) -> tuple[float, Any]:
    """Return the seconds that a piece of work takes, and its result."""
    started = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def in_turn(
    works: Mapping[str, Work],
    rounds: int,
    *,
    warm_up: bool = True,
    clear: Callable[[], None] = lambda: None,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run every work once a round; return the seconds of each round, and the last results.

    Parameters
    ----------
    works : mapping
        From a name to what is run.
    rounds : int
        How many rounds count.
    warm_up : bool
        Whether one round comes first that does not count.
    clear : callable
        Takes away what a work left behind, and is not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results: dict[str, Any] = {}
    for number in range(-int(warm_up), rounds):
        for name, work in works.items():
            took, results[name] = timed(work)
            if number >= 0:
                seconds[name].append(took)
            clear()
    return seconds, results


def as_numpy(array: Any) -> np.ndarray:
    """Return an array or a tensor, on whatever device, as a numpy array."""
    return np.asarray(torch.as_tensor(array).cpu())


def same(what: str, ours: Any, theirs: Any, within: float) -> str:
    """Assert that two arrays are equal within an absolute tolerance; return how far they are apart.

    Parameters
    ----------
    what : str
        What is compared, for the message and the table.
    ours, theirs : array or tensor
        The two sides, of one shape.
    within : float
        The greatest difference that is allowed.
    """
    one, other = as_numpy(ours), as_numpy(theirs)
    assert one.shape == other.shape, f"{what}: {one.shape} is not {other.shape}"
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0)
    assert apart <= within, f"{what}: differs by {apart:.2g}, more than {within:.2g}"
    return f"{what} equal to {apart:.1e}"


def run(
    doc: str | None,
    measure: Callable[[S, str], Iterator[Row]],
    sizes: Mapping[str, Sequence[S]],
    words: Sequence[str] | None = None,
) -> None:
    """Read the options, measure, and print the table.

    Parameters
    ----------
    doc : str
        The benchmark's help.
    measure : callable
        Takes a shape and the device, and yields rows.
    sizes : mapping
        The shapes of each size: ``small`` takes seconds, ``usual`` some minutes at most, ``full``
        is what is published.
    words : sequence of str, optional
        The command line's words; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="seconds: does it run, is it right")
    size.add_argument("--full", action="store_true", help="the sizes of published data sets")
    parser.add_argument("--device", default="cpu", help="of the arrays and networks, where any are")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table here too")
    given = parser.parse_args(words)
    chosen = "small" if given.small else "full" if given.full else "usual"
    option = "" if chosen == "usual" else f" --{chosen}"
    lines = [
        f"`python -m benchmarks.{Path(inspect.getfile(measure)).stem}{option}`, "
        f"{platform.machine()}, {given.device}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}",
        "",
        joined(HEADER),
        joined(["---"] * len(HEADER)),
    ]
    print("\n".join(lines), flush=True)
    for shape in sizes[chosen]:
        for row in measure(shape, given.device):
            lines.append(row.line())
            print(lines[-1], flush=True)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text("\n".join(lines) + "\n")
