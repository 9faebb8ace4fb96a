"""Write tests/data/bank-v1: ``python -m tests.data.write_bank_v1``."""

from pathlib import Path

import numpy as np

from featbank import BankPlan, BankWriter, Shots
from featbank.bank.rows import SplitRows
from featbank.store import schema

BANK = Path(__file__).parent / "bank-v1"

IDS = {"train": ["a/1.jpg", "ä 2.png", "a,3.jpg", "", "日本/5.jpg"], "val": ["v1", "v2", "v3"]}
LABELS = {"train": [0, 0, 1, 1, 2], "val": [2, 1, 0]}
FEATURES = {
    "train": [
        [0.5, -1.25, 3.0, 65504.0],
        [-0.0, 2.0**-24, 1e-3, -65504.0],
        [1.0, 2.0, 3.0, 4.0],
        [0.0, 0.0, 0.0, 0.0],
        [-7.5, 0.1, 100.0, -1e-4],
    ],
    "val": [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
}
WEIGHT = [[0.25, -0.5, 1.0, 2.0], [3.0, 1.5, -1.0, 0.125], [0.0, 0.0, 0.1, -0.1]]
BIAS = [0.5, -0.25, 1e-3]
PROVENANCE = {"checkpoint": "0" * 64, "layer": "fc", "versions": {"torch": "2.15.0"}}


def plan() -> BankPlan:
    rows = {name: SplitRows(IDS[name], np.array(LABELS[name])) for name in IDS}
    return BankPlan(
        dim=4,
        rows=rows,
        class_names=["cat", "dög", "eel"],
        dtype="float16",
        classifier=(np.array(WEIGHT), np.array(BIAS)),
        shots=Shots(50, 10),
        provenance=PROVENANCE,
        skipped={"val": ["broken.jpg"]},
        batch=2,
        images=True,
    )


def main() -> None:
    schema.CHUNK_BYTES = 2 * 4 * 2  # two rows to a chunk: three of train, the last one short
    with BankWriter.begin(BANK, plan(), overwrite=True) as writer:
        for name, start, stop in writer.missing():
            rows = np.array(FEATURES[name][start:stop], dtype=np.float32)
            digests = np.arange(start, stop, dtype=np.uint8)[:, None] + np.arange(
                32, dtype=np.uint8
            )
            writer.put(name, start, rows, (digests, 1000 + np.arange(start, stop)))
        writer.commit()


if __name__ == "__main__":
    main()
