"""Label images with a model that `featbank export --format onnx` wrote, without featbank.

    python onnx_predict.py DIR IMAGE...

needs onnxruntime, Pillow and numpy. It prints a line of CSV for each image.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def offset(inside: int, outside: int) -> int:
    """Return where `inside` pixels begin in the middle of `outside`; less than 0 cuts them off."""
    return (outside - inside) // 2 if inside < outside else -round((inside - outside) / 2)


def pixels_of(path: str, spec: dict) -> np.ndarray:
    """Return an image as the network is shown it: uint8 (3, H, W)."""
    image = Image.open(path)
    if image.mode.startswith(("I", "F")):
        raise SystemExit(f"{path} has more than 8 bits a pixel; convert it to 8 bits")
    image, size = image.convert("RGB"), spec["size"]
    height, width = size if isinstance(size, list) else (size, size)
    tall, wide = int(height / spec["crop"]), int(width / spec["crop"])
    mode = spec.get("crop_mode", "center")
    if mode == "center" and tall == wide:  # the shorter side fits, fractions are cut off
        to = [tall * side // min(image.size) for side in image.size]
    elif mode == "squash":  # both sides fit
        to = [wide, tall]
    else:  # the shorter side fits, or the longer one where the rest becomes a border
        ratio = (max if mode == "border" else min)(image.width / wide, image.height / tall)
        to = [round(side / ratio) for side in image.size]
    image = image.resize(to, Image.Resampling[spec["interpolation"].upper()])
    fill = tuple(round(255 * value) for value in spec["mean"]) if mode == "border" else 0
    seen = Image.new("RGB", (width, height), fill)
    seen.paste(image, (offset(to[0], width), offset(to[1], height)))
    return np.asarray(seen).transpose(2, 0, 1)


def main(folder: str, *paths: str) -> None:
    """Print path, label and confidence of every image."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(Path(folder, "model.onnx")))
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["path", "label", "confidence"])
    for path in paths:
        pixels = pixels_of(path, config["featbank"]["model"]["input"])[np.newaxis]
        ((shares,),) = session.run(["probabilities"], {"pixels": pixels})
        out.writerow([path, config["label_names"][shares.argmax()], f"{shares.max():.6f}"])


if __name__ == "__main__":
    main(*sys.argv[1:])
