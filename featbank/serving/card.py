"""The README of an exported model: what it is for, how good it is, how to show it images."""

from __future__ import annotations

import json
from collections.abc import Iterator

from featbank.data.transforms import InputSpec, sides
from featbank.results.numbers import GROUPS, percent
from featbank.results.records import Reached
from featbank.runtime.names import printable
from featbank.serving.record import ModelRecord

__all__ = ["card"]

_USE = {
    "timm": """import timm

model = timm.create_model("local-dir:DIR", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
""",
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("DIR/model.onnx")
logits, probabilities, features = session.run(None, {"pixels": pixels})  # uint8 (batch, 3, H, W)
""",
    "pt2": """import torch

program = torch.export.load("DIR/model.pt2").module()
logits, probabilities, features = program(pixels)  # uint8 (batch, 3, H, W)
""",
}


def card(record: ModelRecord, form: str, license_name: str | None) -> str:
    """Return the model card in Markdown.

    Parameters
    ----------
    record : ModelRecord
    form : {"timm", "onnx", "pt2"}
        The format.
    license_name : str, optional
        What the user says the licence of the weights is.
    """
    return "\n".join(_lines(record, form, license_name)) + "\n"


def _lines(record: ModelRecord, form: str, license_name: str | None) -> Iterator[str]:
    """Yield the lines of the card."""
    yield "---"
    yield "pipeline_tag: image-classification"
    yield "tags: [image-classification, featbank]"
    if form == "timm":
        yield "library_name: timm"
    if license_name:
        yield f"license: {json.dumps(license_name)}"  # quoted, as YAML reads it too
    yield "---"
    n_classes = len(record.class_names)
    yield f"# {_plain(record.backbone)}, {_plain(record.spec)}, {n_classes} classes\n"
    yield (
        "A frozen network and a classifier that was fitted on its features with featbank, for "
        "classes of very different frequency.\n"
    )
    yield "## How good it is\n"
    yield from _results(record)
    yield "## Images\n"
    if record.input is not None:
        yield from _input(record.input, form)
    yield "## Use\n"
    yield f"```sh\nfeatbank predict images/ --model DIR{' --trust' if form == 'pt2' else ''}\n```\n"
    yield f"```python\n{_USE[form]}```\n"
    yield (
        "Probabilities are the softmax of the logits over the temperature "
        f"{record.temperature:.6g}. `config.json` has the class names in the order of the columns, "
        "and how the head was fitted. The pictures and arrays named `self_test` prove that "
        "a machine computes what the exporting one did: `featbank verify DIR`.\n"
    )
    yield "## Classes\n"
    counts = record.class_counts or (None,) * n_classes
    for name, count in zip(record.class_names, counts, strict=True):
        rows = "" if count is None else f": {count:,} training images"
        yield f"- {_plain(name)}{rows}"
    yield "\n## Licence\n"
    yield _plain(license_name) if license_name else "Not stated by whoever exported the model."


def _results(record: ModelRecord) -> Iterator[str]:
    """Yield the table of accuracies, a row for each split that was reported."""
    if not record.results:
        yield "The head was saved without results.\n"
        return
    chosen = record.provenance.get("selected_on")
    chosen = f"; parameters chosen on {_plain(str(chosen))}" if chosen else ""
    yield f"Accuracy in %, mean over classes{chosen}.\n"
    yield "| split | " + " | ".join(GROUPS) + " | 95 % of all |"
    yield "|---" * (len(GROUPS) + 2) + "|"
    for each in record.results:
        yield _row(each)
    yield ""


def _row(result: Reached) -> str:
    """Return one row of the table."""
    ends = result.ci95.get("all")
    span = "" if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"
    values = [percent(result.metrics.get(group)) for group in GROUPS]
    return f"| {_plain(result.split)} | " + " | ".join([*values, span]) + " |"


def _input(spec: InputSpec, form: str) -> Iterator[str]:
    """Yield how an image becomes what the network is shown."""
    height, width = sides(spec.size)[0], sides(spec.size)[-1]
    shorter = "the shorter side" if spec.crop_mode == "center" else "both sides"
    if spec.crop_mode == "border":
        shorter = "the longer side"
    resized = " x ".join(str(int(side / spec.crop)) for side in (height, width))
    yield (
        f"RGB, resized with Pillow's {spec.interpolation} filter (which smooths when it shrinks) "
        f"so that {shorter} fits {resized} pixels, and the centre of {height} x {width} cut out. "
        "Other libraries resize otherwise, which changes labels.\n"
    )
    mean, std = (", ".join(f"{each:g}" for each in part) for part in (spec.mean, spec.std))
    where = "timm's transform does this" if form == "timm" else "the file does this itself"
    yield f"Pixels are then divided by 255, minus ({mean}), over ({std}): {where}.\n"


def _plain(text: str) -> str:
    """Return text that is one line of Markdown and no markup."""
    return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<")
