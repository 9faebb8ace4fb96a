"""The programs in examples/ run, and give what `featbank predict` gives."""

import csv
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from featbank.data.transforms import InputSpec, pixel_transform
from tests.commands import featbank
from tests.doc_blocks import photographs
from tests.test_project import constraints

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPT, SERVICE = EXAMPLES / "onnx_predict.py", EXAMPLES / "service"
# Runs a script where these packages cannot be imported.
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys(["featbank", "heads", "cli", "torch", "torchvision", "timm"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LONGEST = 120.0
# Two programs that compute in float32 differ by less.
CLOSE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs in birds/, and in model/ a network and head for them."""
    work = tmp_path_factory.mktemp("examples")
    photographs(work / "birds")
    data, run, bank = f"imagefolder:root={work / 'birds'}", work / "run", work / "bank.zarr"
    size = ("--image-size", 32)
    made = [
        ("train", "--data", data, "--backbone", "tiny-cnn", *size, "--epochs", 1, "--out", run),
        ("extract", run, "--out", bank),
        ("fit", bank, "--head", "ncm", "--out", work / "heads"),
        ("export", work / "heads/ncm.head", "--run", run, "--format", "onnx",
         "--out", work / "model"),
    ]  # fmt: skip
    for words in made:
        done = featbank(*words)
        assert done.exit_code == 0, done.output
    return work


@pytest.fixture(scope="module")
def images(folder: Path) -> list[Path]:
    """Images of several sizes, modes and formats."""
    found = sorted(folder.glob("birds/test/*/*"))
    with Image.open(found[0]) as image:
        wide = image.resize((90, 41))
    for name, mode in (("grey.png", "L"), ("palette.png", "P"), ("alpha.png", "RGBA")):
        wide.convert(mode).save(folder / name)
        found.append(folder / name)
    return found


@pytest.fixture(scope="module")
def wanted(folder: Path, images: list[Path]) -> list[dict[str, Any]]:
    """What the network and the head themselves say of the images."""
    network = ("--run", folder / "run", "--head", folder / "heads/ncm.head")
    done = featbank("predict", *images, *network, "--top-k", 2, "--format", "jsonl", "--quiet")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_script_needs_no_featbank(
    folder: Path, images: list[Path], wanted: list[dict[str, Any]]
) -> None:
    words = [sys.executable, "-c", WITHOUT, str(SCRIPT), str(folder / "model"), *map(str, images)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [row["path"] for row in rows] == [each["path"] for each in wanted]
    assert [row["label"] for row in rows] == [each["label"] for each in wanted]
    found = [float(row["confidence"]) for row in rows]
    assert found == pytest.approx([each["confidence"] for each in wanted], abs=CLOSE)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [24, (20, 31)])
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.9])
def test_the_script_resizes_as_the_model_says(
    mode: str, interpolation: str, size: int | tuple[int, int], crop: float, tmp_path: Path
) -> None:
    spec = InputSpec(size, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), interpolation, crop, mode)
    pixels_of = runpy.run_path(str(SCRIPT))["pixels_of"]
    rng = np.random.default_rng(0)
    for shape in [(24, 24), (61, 40), (33, 90), (13, 17), (16, 100)]:
        path = tmp_path / "image.png"
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        image.save(path)
        np.testing.assert_array_equal(
            pixels_of(str(path), spec.to_json()), pixel_transform(spec)(image).numpy()
        )


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[httpx.Client]:
    """A client of the service, which runs until the tests are over."""
    words = [sys.executable, "-m", "uvicorn", "--app-dir", str(SERVICE), "service:app"]
    settings = {"FEATBANK_MODEL": str(folder / "model"), "FEATBANK_MOST_BYTES": "200000"}
    with (folder / "service.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*words, "--port", "0"], env=os.environ | settings, stdout=log, stderr=log
        )
        try:
            with httpx.Client(base_url=address(process, log.name), timeout=LONGEST) as client:
                yield client
        finally:
            process.terminate()
            process.wait(LONGEST)


def address(process: subprocess.Popen[bytes], log: str) -> str:
    """Wait until the service runs, and return its address: the system chose a free port."""
    while True:
        text = Path(log).read_text(encoding="utf-8")
        found = re.search(r"running on (http://\S+)", text)
        if found:
            return found[1]
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"the service ended: {text}")


def posted(paths: list[Path]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (path.name, path.read_bytes())) for path in paths]


def test_the_service_labels_images(
    service: httpx.Client, images: list[Path], wanted: list[dict[str, Any]]
) -> None:
    answer = service.post("/predict", params={"top_k": 5}, files=posted(images))
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [each["name"] for each in found] == [path.name for path in images]
    assert [each["label"] for each in found] == [each["label"] for each in wanted]
    for each, own in zip(found, wanted, strict=True):
        assert each["confidence"] == pytest.approx(own["confidence"], abs=CLOSE)
        assert [one["label"] for one in each["top"]] == [one["label"] for one in own["top"]]
        shares = [one["confidence"] for one in each["top"]]
        assert shares == pytest.approx([one["confidence"] for one in own["top"]], abs=CLOSE)

    alone = service.post("/predict", files=posted(images[:1])).json()["predictions"]
    assert alone[0]["confidence"] == found[0]["confidence"]
    assert len(alone[0]["top"]) == 1


def test_the_service_is_healthy(service: httpx.Client) -> None:
    answer = service.get("/health").json()
    assert answer["status"] == "ok"
    assert answer["network"] == "tiny-cnn"
    assert answer["classes"] == ["dahlia", "temple"]


def test_the_service_refuses_what_is_no_image(
    service: httpx.Client, folder: Path, images: list[Path]
) -> None:
    good = posted(images[:1])
    whole = images[0].read_bytes()
    Image.new("1", (9_000, 6_000)).save(folder / "huge.png")
    huge = (folder / "huge.png").read_bytes()
    for raw, reason in (
        (b"no image", "no image, or none of"),
        (whole[: len(whole) // 2], "Truncated"),
        (huge, "exceeds limit"),
    ):
        answer = service.post("/predict", files=[*good, ("images", ("a\nb.jpg", raw))])
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("cannot read image 'a")
        assert reason in answer.json()["detail"]
        assert "\n" not in answer.json()["detail"]
    assert service.post("/predict").status_code == 422
    assert service.post("/predict", files=good).status_code == 200


def test_the_service_refuses_what_is_too_large(service: httpx.Client, images: list[Path]) -> None:
    many = service.post("/predict", files=posted(images[:1]) * 33)
    assert (many.status_code, many.json()["detail"]) == (413, "at most 32 images, please")
    large = service.post("/predict", files=[("images", ("large.jpg", bytes(300_000)))])
    assert (large.status_code, large.json()["detail"]) == (413, "at most 200,000 bytes, please")
    undeclared = service.post("/predict", content=iter([b"some", b"bytes"]))
    assert undeclared.status_code == 411


def test_what_the_service_requires_is_tested() -> None:
    lines = (SERVICE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needs = [Requirement(line.partition("#")[0]) for line in lines if not line.startswith("#")]
    assert {need.name for need in needs} == {"fastapi", "uvicorn", "python-multipart"}
    for need in needs:
        (pin,) = constraints()[need.name].specifier
        assert need.specifier.contains(pin.version), need
