"""What to retrain on Digits-LT: classifier, last block too, everything, everything more slowly.

    python -m experiments.retrain --seeds 5

From the plain training of `experiments.recipes`: 10 epochs on images, class-balanced draws, a
fresh classifier, as Kang et al. (ICLR 2020) compare. Beside them that training's own classifier
(joint), and cRT on its banked features.
"""

from __future__ import annotations

from typing import Any

from experiments.common import GROUPS, arguments, gain, measured, spread, table, trained
from experiments.recipes import HEADS, folder

WAYS: dict[str, dict[str, Any]] = {
    "classifier": {"retrain": "classifier"},
    "classifier, shift-bn": {"retrain": "classifier", "shift_bn": True},
    "last block + classifier": {"retrain": "last-block"},
    "everything": {"retrain": "all"},
    "everything, backbone at 0.1": {"retrain": "all", "backbone_lr_scale": 0.1},
}
EPOCHS = 10


def main() -> None:
    """Run what is missing and print the table."""
    given = arguments(__doc__)
    found: dict[str, list[dict[str, float]]] = {
        name: [] for name in ("joint", "crt on the bank", *WAYS)
    }
    for seed in range(given.seeds):
        plain = trained(folder(given.out, seed, "ce"), seed, {"epochs": given.epochs})
        heads = dict(zip(HEADS, measured(plain, "heads", HEADS, seed), strict=True))
        found["joint"].append(heads["joint"])
        found["crt on the bank"].append(heads["crt"])
        for name, settings in WAYS.items():
            where = folder(given.out, seed, f"retrain {name}")
            run = trained(where, seed, {"epochs": EPOCHS, **settings}, init=plain)
            found[name].append(measured(run, "heads", ("joint",), seed)[0])
    rows = []
    for name, seeds in found.items():
        values = [[each[group] for each in seeds] for group in GROUPS]
        joint = [each["all"] for each in found["joint"]]
        rows.append([name, *map(spread, values), "" if name == "joint" else gain(values[3], joint)])
    print(table(["retrained", *GROUPS, "all over joint"], rows))


if __name__ == "__main__":
    main()
