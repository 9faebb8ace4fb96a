"""Real image files, lists of them, and a slow metric, for the tests of stage 1."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((220, 40, 30), (30, 200, 60), (40, 60, 230))


def write_image(path: Path, label: int, rng: np.random.Generator, side: int = 24) -> None:
    """Save noise around the class's colour, as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = rng.integers(-30, 30, (side, side + 4, 3))
    pixels = np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def write_data(root: Path, counts: dict[str, list[int]], seed: int = 0) -> dict[str, str]:
    """Write images and lists for counts per split and class; return the parameters."""
    rng = np.random.default_rng(seed)
    params = {"root": str(root)}
    for split, per_class in counts.items():
        lines = []
        for label, count in enumerate(per_class):
            for i in range(count):
                name = f"{split} set/c{label}_{i}.{'jpg' if i % 2 else 'png'}"
                write_image(root / name, label, rng)
                lines.append(f"{name} {label}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        params[split] = f"{split}.txt"
    return params


def accuracies(
    labels: np.ndarray, predictions: np.ndarray, counts: np.ndarray
) -> dict[str, float | None]:
    """Mean of per-class accuracies, over all classes and over those of few images."""
    per_class = [float((predictions[labels == c] == c).mean()) for c in range(len(counts))]
    few = [acc for acc, n in zip(per_class, counts, strict=True) if n < 20]
    return {"all": float(np.mean(per_class)), "few": float(np.mean(few)) if few else None}
