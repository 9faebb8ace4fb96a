"""Records of what features are made from: digests of data, transform and weights, and versions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from featbank.bank.rows import rows_digest
from featbank.data.transforms import Transform, fingerprint
from featbank.data.types import ImageData

__all__ = [
    "data_record",
    "git",
    "recipe_record",
    "tensors_digest",
    "transform_record",
    "versions",
]

_PACKAGES = ("featbank", "torch", "torchvision", "timm", "pillow", "numpy", "scikit-learn")


# Settings of a training that are left out of its recipe: some change no result, others are paths.
_NO_RECIPE = frozenset({"workers", "checkpoint_every", "weights", "init"})


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: names, dtypes, shapes and bytes, in order of name.

    It depends on what they hold and not on the file, the device or the order they come in.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        head = [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def recipe_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the training of a checkpoint's `record` was done, without paths.

    For a retraining, ``init`` holds the recipe, without its seed, of the training that it began
    from.
    """
    recipe = {name: value for name, value in record["config"].items() if name not in _NO_RECIPE}
    start = record.get("init", {}).get("recipe")
    return recipe if start is None else {**recipe, "init": start}


def data_record(data: ImageData) -> dict[str, Any]:
    """Return a data set's name, the digests of its splits, and the settings that drew them.

    Paths are not part of it, so that a data set that was moved is still the same.
    """
    lists = {name: rows_digest(split) for name, split in data.splits.items()}
    drawn = {"settings": dict(data.settings)} if data.settings else {}
    return {"name": data.name, "lists": lists, **drawn}


def transform_record(transform: Transform) -> dict[str, str]:
    """Return a transform spelled out, and the digest of its output on a fixed image."""
    return {"spec": " ".join(repr(transform).split()), "fingerprint": fingerprint(transform)}


def versions() -> dict[str, str]:
    """Return the installed versions of what a feature's bits depend on."""
    return {name: _version(name) for name in _PACKAGES}


def git(folder: str | Path = ".") -> dict[str, Any] | None:
    """Return the commit of the git repository around a folder, and whether files differ from it.

    A repository may be a stranger's, and its configuration can name programs, which are not run:
    no hooks, no file-system monitor, no filters. Where it names filters, files cannot be compared
    without them, and ``dirty`` is None.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    filters = _git(folder, "config", "--show-scope", "--includes", "--get-regexp", r"^filter\.")
    if filters and re.search("^(local|worktree)\\s", filters, re.MULTILINE):
        return {"commit": commit, "dirty": None}
    compare = ("--name-only", "--ignore-submodules=all", "--no-ext-diff", "--no-textconv")
    changed = _git(folder, "diff-files", *compare)
    staged = _git(folder, "diff-index", "--cached", *compare, "HEAD")
    return {"commit": commit, "dirty": bool(changed or staged)}


def _git(folder: str | Path, *words: str) -> str | None:
    """Return what a git command prints, without what the repository's configuration would run."""
    harmless = ("core.fsmonitor=false", f"core.hooksPath={os.devnull}", "core.pager=cat")
    settings = [word for each in harmless for word in ("-c", each)]
    command = ["git", "--no-pager", *settings, "-C", str(folder), *words]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=environment,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
