"""Heads x banks into a folder: what is there and whole is kept, the rest is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from featbank.bank.bank import Bank
from featbank.comparing.bank_run import Bench, Entry, Settings
from featbank.comparing.cells import cell_key, installed_version, slugs
from featbank.comparing.kept import adopt, comparing, keep_page
from featbank.comparing.result import combine, recorded
from featbank.comparing.seed_groups import by_recipe, named_groups
from featbank.errors import InputError, UsageError
from featbank.results.alike import other_classes
from featbank.results.cell import ClassNames
from featbank.results.comparison import Comparison
from featbank.results.plain import plain
from featbank.results.saved import COMPARISON, digest_of, read_record, write_record
from featbank.runtime.names import printable
from featbank.runtime.progress import SILENT, Reporter
from featbank.runtime.spec import Spec, parse_spec
from featbank.study.splits import Roles, roles

__all__ = ["DEFAULT_HEADS", "Settings", "compare", "compare_into"]

# The heads that are compared where none is named.
DEFAULT_HEADS = ("joint", "ncm", "tau", "crt", "lws")


def compare(  # noqa: PLR0913 - each choice of a comparison is named
    banks: Sequence[str | Path],
    heads: Sequence[str | Spec] = DEFAULT_HEADS,
    out: str | Path | None = None,
    *,
    select: str | None = None,
    report: str | None = None,
    seed: int = 0,
    draws: int = 1000,
    baseline: str | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    by_recipe: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Comparison:
    """Fit heads on banks and set them side by side: ``featbank compare`` as a function.

    Parameters
    ----------
    banks : sequence of paths
        The banks; all must have the same classes in the same order.
    heads : sequence of str
        Specifications of heads, as ``"ncm:metric=cosine"``.
    out : path, optional
        The folder that keeps the fitted heads, the results and the page. What it holds of the
        same bank, head, seed and version is not done again. None keeps nothing but the result.
    select, report : str, optional
        The splits to choose parameters on and to evaluate on; by default `val` and `test`.
    seed : int
        The seed of every draw.
    draws : int
        How often the evaluation rows are resampled for the intervals.
    baseline : str, optional
        A head or a bank: only differences to it are tested.
    groups : mapping, optional
        From a group's name to the banks that are seeds of one recipe.
    by_recipe : bool
        Group the banks whose recorded recipes differ in their seed only.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:i"``.
    overwrite : bool
        Fit everything anew, also what `out` holds already.
    reporter : Reporter
        Is told how far the work is.

    Raises
    ------
    UsageError
        A bank, head, split, group or baseline that does not exist or is named twice.
    InputError
        The banks have different classes.
    OutputExistsError
        `out` holds something else.

    Examples
    --------
    >>> study = featbank.compare([bank], ["ncm", "tau"], device="cpu")
    >>> study.best.spec in ("ncm", "tau"), len(study.differences())
    (True, 1)
    """
    wanted = [head if isinstance(head, Spec) else parse_spec(head) for head in heads]
    settings = Settings(select, report, seed, draws, baseline, groups or {}, by_recipe, device)
    paths = [Path(bank) for bank in banks]
    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(TemporaryDirectory()), "comparison")
        return compare_into(
            paths, wanted, Path(out), settings, overwrite=overwrite, reporter=reporter
        )


def compare_into(
    paths: Sequence[Path],
    wanted: Sequence[Spec],
    out: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    shown: Mapping[Path, Path] | None = None,
) -> Comparison:
    """Fit what is missing, compare, write the page, and return what `compare.json` holds.

    The earlier comparison in `out` stays as it is until the new one is whole. What was made of
    that before an error or a kill is kept beside it, and the same comparison goes on from there.

    Parameters
    ----------
    shown : mapping, optional
        The paths that are recorded for some of `paths`, where those banks are moved before anyone
        reads the comparison.

    Raises
    ------
    OutputExistsError
        `out` holds something else.
    LockedError
        Another process is writing there.
    StorageError
        The disk is full, read-only or failing.
    """
    entries = [shown_at(entry, shown or {}) for entry in named(paths, settings)]
    check(entries, wanted, settings)
    check_classes(entries)
    groups = groups_of(entries, settings)
    keys = [[key_of(entry, spec, settings) for spec in wanted] for entry in entries]
    if not all((out / "cells" / key).is_dir() for row in keys for key in row):
        check_heads(wanted, entries)
    n_new = sum(not (out / "cells" / key).is_dir() or overwrite for row in keys for key in row)
    with comparing(out, entries, n_new, overwrite=overwrite) as new:
        old = None if new.old is None else out
        benches = [Bench(entry, new.work, settings, reporter, overwrite, old) for entry in entries]
        for bench, row in zip(benches, keys, strict=True):
            bench.fill(wanted, row)
        made_from = digest_of([
            keys, [bench.about.key for bench in benches], plain(recorded(settings)), groups
        ])  # fmt: skip
        before = None if old is None else read_record(old / COMPARISON)
        if (
            before
            and before.get("made_from") == made_from
            and not any(bench.made for bench in benches)
        ):
            keep_page(out)
            return Comparison.from_json(before)
        adopt(old, new.work)
        found = replace(combine(benches, wanted, keys, settings, groups), made_from=made_from)
        write_record(new.work / COMPARISON, found.to_json())
        keep_page(new.work)
        new.finish()
    return found


def shown_at(entry: Entry, shown: Mapping[Path, Path]) -> Entry:
    """Return a bank's entry with the path that is to be recorded."""
    return replace(entry, shown=shown.get(entry.bank.path))


def groups_of(entries: Sequence[Entry], settings: Settings) -> dict[str, list[str]]:
    """Return the groups of seeds that were named, and those that the recipes tell."""
    groups = named_groups(settings.groups, entries)
    if settings.by_recipe:
        found = by_recipe(entries)
        if not found:
            message = "--group-seeds: no two banks say that they differ in their seed only"
            raise UsageError(message)
        groups |= {name: banks for name, banks in found.items() if name not in groups}
    return groups


def check_heads(wanted: Sequence[Spec], entries: Sequence[Entry]) -> None:
    """Refuse a head that cannot be fitted on one of the banks before the first is fitted."""
    from featbank.study.choosing import points_of

    for spec in wanted:
        for entry in entries:
            points_of(spec, entry.parts)


def named(paths: Sequence[Path], settings: Settings) -> list[Entry]:
    """Open the banks and name each by its file, numbered where a name comes again."""
    banks = [Bank.open(path) for path in paths]
    seen: dict[str, str] = {}
    for bank in banks:
        if bank.digest in seen:
            message = f"{bank.path} and {seen[bank.digest]} are the same bank; name it once"
            raise UsageError(printable(message))
        seen[bank.digest] = str(bank.path)
    names: list[str] = []
    for bank in banks:
        stem = bank.path.resolve().name.removesuffix(".zarr")
        same = sum(name == stem or name.startswith(f"{stem}-") for name in names)
        names.append(f"{stem}-{same + 1}" if stem in names else stem)
    return [
        Entry(bank, name, slug, roles_of(bank, settings))
        for bank, name, slug in zip(banks, names, slugs(names), strict=True)
    ]


def roles_of(bank: Bank, settings: Settings) -> Roles:
    """Return the splits' roles; one split is reported, test where there are several."""
    parts = roles(bank, settings.select, settings.report)
    if len(parts.report) > 1 and "test" not in parts.report:
        message = f"{bank.path} has {', '.join(parts.report)}; name the one to --report"
        raise UsageError(printable(message))
    return parts if len(parts.report) == 1 else replace(parts, report=("test",))


def check(entries: Sequence[Entry], wanted: Sequence[Spec], settings: Settings) -> None:
    """Refuse names that are not among the banks and heads, and a head that is named twice."""
    heads, banks = [str(spec) for spec in wanted], [entry.name for entry in entries]
    message = ""
    kinds = [
        (spec.name, {key: str(value) for key, value in spec.params.items()}) for spec in wanted
    ]
    again = [head for place, head in enumerate(heads) if kinds[place] in kinds[:place]]
    if again:
        message = f"--head {again[0]} is given twice"
    elif settings.baseline not in (None, *heads, *banks):
        known = ", ".join((*heads, *banks))
        message = f"--baseline {settings.baseline} is neither head nor bank; there are {known}"
    if message:
        raise UsageError(printable(message))


def check_classes(entries: Sequence[Entry]) -> None:
    """Refuse banks of other classes: what one calls class 3 is another thing in the other."""
    difference = other_classes([
        ClassNames(entry.name, entry.bank.class_names) for entry in entries
    ])  # fmt: skip
    if difference:
        message = (
            f"{difference}. Only banks with the same classes in the same order are compared; make "
            "one of them again, or compare them apart"
        )
        raise InputError(message)


def key_of(entry: Entry, spec: Spec, settings: Settings) -> str:
    """Return the name of a cell: of everything that changes what is in it."""
    return cell_key(
        bank=entry.bank.digest,
        head=spec.name,
        params={key: str(value) for key, value in spec.params.items()},
        seed=settings.seed,
        select=entry.parts.select,
        report=entry.split,
        version=installed_version(),
        format=2,
    )
