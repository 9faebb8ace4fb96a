"""Sizes of the published long-tailed lists, by which a wrong or truncated list is found early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featbank.errors import InputError

__all__ = ["PUBLISHED", "Published", "check_published"]


@dataclass(frozen=True)
class Published:
    """Classes and images of each split, and where lists and images come from."""

    classes: int
    sizes: Mapping[str, int]
    source: str


_LISTS = "lists: github.com/facebookresearch/classifier-balancing, folder data"
_INAT = "images and annotations: github.com/visipedia/inat_comp, folder"

# The first two are from Liu et al. (CVPR 2019). Those of iNaturalist are from the challenges' own
# tables, in 2017/README.md and 2018/README.md of that repository. The literature tests on its val
# images, so either split may hold them.
PUBLISHED = {
    "imagenet-lt": Published(
        1000,
        {"train": 115_846, "val": 20_000, "test": 50_000},
        f"{_LISTS}; images: image-net.org (ILSVRC 2012)",
    ),
    "places-lt": Published(
        365,
        {"train": 62_500, "val": 7_300, "test": 36_500},
        f"{_LISTS}; images: places2.csail.mit.edu (Places365-Standard)",
    ),
    "inat2017": Published(
        5_089, {"train": 579_184, "val": 95_986, "test": 95_986}, f"{_INAT} 2017"
    ),
    "inat2018": Published(
        8_142, {"train": 437_513, "val": 24_426, "test": 24_426}, f"{_INAT} 2018"
    ),
}


def check_published(name: str, classes: int, sizes: Mapping[str, int]) -> None:
    """Raise `InputError` unless classes and split sizes are those of the published `name`."""
    known = PUBLISHED[name]
    if classes != known.classes:
        message = (
            f"{name} has {known.classes:,} classes; these lists have {classes:,}. Get them again "
            f"({known.source}), or leave name= out for lists of your own"
        )
        raise InputError(message)
    for split, size in sizes.items():
        if size != known.sizes[split]:
            message = (
                f"the {split} list of {name} has {known.sizes[split]:,} images; this one has "
                f"{size:,}. Get it again ({known.source}), or leave name= out for lists of your own"
            )
            raise InputError(message)
