"""A second view of a bank's sample: t-SNE, on request. It takes seconds and has no regions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featbank.bank.bank import Bank
from featbank.errors import StaleError
from featbank.files.atomic import replace_file
from featbank.report.folder import Results
from featbank.results.cell import BankRecord
from featbank.results.saved import arrays_bytes
from featbank.runtime.progress import Reporter

__all__ = ["add_tsne", "embedding"]

# As van der Maaten and Hinton, "Visualizing Data using t-SNE" (JMLR 2008), section 4.2: 30
# principal directions first, and a perplexity of 30 (theirs are 30 and 40).
DIRECTIONS, PERPLEXITY = 30, 30.0


def add_tsne(results: Results, reporter: Reporter) -> None:
    """Embed the sample of every bank, reading its features, and keep the points beside the view.

    Raises
    ------
    StaleError
        A bank is no longer the one that was compared.
    """
    seed = int(results.compare.settings.seed or 0)
    for record in results.banks:
        slug, rows = record.slug, results.view(record.slug)["rows"]
        if results.tsne(slug) is not None:
            continue
        features = unchanged(record)[record.report].take(rows, dtype="float32")
        with reporter.track(f"t-SNE of {record.name}", len(rows), "rows") as advance:
            points = embedding(features, seed)
            advance(len(rows), "")
        replace_file(results.tsne_path(slug), partial(keep, points, rows))


def unchanged(record: BankRecord) -> Bank:
    """Open the bank of a record, which must be the one that was compared."""
    bank = Bank.open(record.path)
    if bank.digest != record.digest:
        message = (
            f"{record.path} is not the bank that was compared (digest {bank.digest[:12]}, not "
            f"{record.digest[:12]}); run featbank compare again"
        )
        raise StaleError(message)
    return bank


def keep(points: NDArray[np.float32], rows: NDArray[np.int64], path: Path) -> None:
    """Write the points and the rows that they are of."""
    path.write_bytes(arrays_bytes({"points": points, "rows": rows}))


def embedding(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return features (n, D) as points (n, 2); one or two rows by their first numbers."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n_rows, dim = features.shape
    if n_rows < 3:
        return np.pad(features, ((0, 0), (0, 2)))[:, :2].astype(np.float32)
    flat = PCA(min(DIRECTIONS, n_rows, dim), svd_solver="full").fit_transform(features)
    perplexity = min(PERPLEXITY, (n_rows - 1) / 3)
    # A step of so few rows is shorter than the threads' wait for each other on a busy machine.
    with threadpool_limits(1):
        fitted = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(flat)
    return np.asarray(fitted, dtype=np.float32)
