"""The code blocks of the documentation, and the files that they find when they run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from featbank import BankWriter
from tests.banks import blobs, fill, plan, write_bank, write_npz

__all__ = ["Block", "blocks_of", "commands_of", "prepare", "prepared_names"]

FENCE = re.compile(r"^(```+|~~~+)\s*(\w*)")
NOT_RUN = re.compile(r"<!-- not run:(.*)-->")
RUN_WITH = re.compile(r"<!-- run with:(.*)-->")
PREPARED = re.compile(r"<!-- prepared:(.*?)-->")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: where it begins, its language, its text, and its comment's word.

    `not_run` is the reason why it is not run, None where it is; `extra` are options that each
    command gets beside those that are shown, so that a long one takes seconds.
    """

    line: int
    language: str
    text: str
    not_run: str | None
    extra: tuple[str, ...]


def blocks_of(page: str) -> list[Block]:
    """Return the fenced blocks of a page of Markdown."""
    found: list[Block] = []
    lines = page.splitlines()
    start, comment = 0, ""
    while start < len(lines):
        fence = FENCE.match(lines[start])
        if fence is None:
            comment = lines[start] if lines[start].strip() else comment
            start += 1
            continue
        stop = lines.index(fence[1], start + 1)
        text = "\n".join(lines[start + 1 : stop])
        marked, extra = NOT_RUN.search(comment), RUN_WITH.search(comment)
        reason = marked[1].strip() if marked else None
        options = tuple(shlex.split(extra[1])) if extra else ()
        found.append(Block(start + 1, fence[2], text, reason, options))
        start, comment = stop + 1, ""
    return found


def commands_of(text: str) -> list[list[str]]:
    """Return the words of each command of a block; lines without a prompt are output then."""
    whole = text.replace("\\\n", " ").splitlines()
    prompted = [line[2:] for line in whole if line.startswith("$ ")]
    return [words for line in prompted or whole if (words := shlex.split(line, comments=True))]


def prepared_names(page: str) -> list[str]:
    """Return what a page says is in the folder in which its blocks run."""
    return [name.strip() for found in PREPARED.findall(page) for name in found.split(",")]


def prepare(name: str, folder: Path) -> None:
    """Put one thing into a folder: a bank, a file of features, or a data set of photographs."""
    make = MAKERS.get(name.rstrip("/"))
    if make is None:
        message = f"no {name!r} can be prepared: {', '.join(MAKERS)}"
        raise ValueError(message)
    make(folder / name.rstrip("/"))


def other_bank(path: Path) -> None:
    """Write a bank of the same rows as another network might see them."""
    usual = plan()
    weight, bias = usual.classifier or (None, None)
    other = replace(usual, classifier=(weight, 0.2 * bias), provenance={"sampler": "class"})
    with BankWriter.begin(path, other) as writer:
        fill(writer)
        writer.commit()


def photographs(path: Path) -> None:
    """Write crops of two photographs as folders of classes, and lists of them."""
    sources = {"dahlia": load_sample_image("flower.jpg"), "temple": load_sample_image("china.jpg")}
    rng = np.random.default_rng(0)
    counts = {"train": (24, 6), "val": (4, 4), "test": (6, 6)}
    for split, sizes in counts.items():
        lines = []
        for label, ((name, photo), size) in enumerate(zip(sources.items(), sizes, strict=True)):
            place = path / split / name
            place.mkdir(parents=True)
            for index in range(size):
                top, left = rng.integers(0, np.array(photo.shape[:2]) - 64)
                suffix = "png" if index % 2 else "jpg"
                crop = Image.fromarray(photo[top : top + 64, left : left + 64])
                crop.save(place / f"{index}.{suffix}")
                lines.append(f"{split}/{name}/{index}.{suffix} {label}\n")
        (path / f"{split}.txt").write_text("".join(lines), encoding="utf-8")


def weights(path: Path) -> None:
    """Write the weights of a small network as timm names them."""
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), path)


def unlabelled(path: Path) -> None:
    """Write features of new rows, without labels."""
    np.save(path, blobs([3] * 5, 3)[0])


MAKERS: dict[str, Callable[[Path], object]] = {
    "birds": photographs,
    "birds.zarr": write_bank,
    "plain.zarr": write_bank,
    "r50.zarr": write_bank,
    "balanced.zarr": other_bank,
    "features.npz": write_npz,
    "new.npy": unlabelled,
    "weights.safetensors": weights,
}
