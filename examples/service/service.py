"""A small HTTP service that labels images with a model that `featbank export` wrote.

    FEATBANK_MODEL=DIR uvicorn service:app

The folder is proved and loaded once, when the service starts.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from PIL import Image

import featbank
from featbank.data.decode import decode_rgb

MOST_BYTES = int(os.environ.get("FEATBANK_MOST_BYTES", 20_000_000))
MOST_IMAGES = 32
# A small file can hold a huge image. Pillow refuses one of more than twice this many pixels.
Image.MAX_IMAGE_PIXELS = 25_000_000


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model before the first request is answered."""
    app.state.model = featbank.Model.load(os.environ.get("FEATBANK_MODEL", "model"))
    app.state.lock = Lock()  # requests are read in several threads, and labelled one by one
    yield


app = FastAPI(title="featbank", lifespan=lifespan)


@app.middleware("http")
async def limit_size(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Refuse a large request before its body is read: the server reads no more than is declared."""
    declared = request.headers.get("content-length", "")
    if request.method == "POST":
        if not declared.isdecimal() or "transfer-encoding" in request.headers:
            return JSONResponse({"detail": "the request must declare its length"}, 411)
        if int(declared) > MOST_BYTES:
            return JSONResponse({"detail": f"at most {MOST_BYTES:,} bytes, please"}, 413)
    return await call_next(request)


@app.get("/health")
def health() -> dict[str, Any]:
    """Say which model answers."""
    record = app.state.model.record
    return {"status": "ok", "network": record.backbone, "head": record.spec,
            "classes": list(record.class_names)}  # fmt: skip


@app.post("/predict")
def predict(
    images: Annotated[list[UploadFile], File(description="one image or several")],
    top_k: Annotated[int, Query(ge=1)] = 1,
) -> dict[str, Any]:
    """Return a label with its probability, and the top k, for each image."""
    model = app.state.model
    if len(images) > MOST_IMAGES:
        raise HTTPException(413, f"at most {MOST_IMAGES} images, please")
    try:
        with app.state.lock:
            pictures = [decode_rgb(each.file.read(), Path(each.filename or "")) for each in images]
            found = model.predict(
                pictures, top_k=min(top_k, len(model.class_names)), on_bad_image="error",
                batch_size=1,
            )  # fmt: skip
    except featbank.InputError as error:
        raise HTTPException(400, str(error)) from error
    return {
        "predictions": [
            {
                "name": image.filename,
                "label": each.label,
                "confidence": each.confidence,
                "top": [{"label": name, "confidence": share} for name, share in each.best],
            }
            for image, each in zip(images, found, strict=True)
        ]
    }
