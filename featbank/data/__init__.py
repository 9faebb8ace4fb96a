"""Labelled images by name: ``open_data("digits-lt", {"seed": "1"})``."""

from featbank.data.dataset import from_datasets
from featbank.data.registry import located, open_data
from featbank.data.types import ImageData, ImageSplit

__all__ = ["ImageData", "ImageSplit", "from_datasets", "located", "open_data"]
