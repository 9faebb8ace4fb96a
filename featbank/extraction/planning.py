"""The plan of a bank of features: all that is known of it before the first feature."""

from __future__ import annotations

from typing import Any

from featbank.bank.plan import BankPlan
from featbank.data.provenance import data_record, transform_record, versions
from featbank.extraction.batchnorm import record
from featbank.extraction.images import KeptImages
from featbank.extraction.runner import Extraction
from featbank.runtime.device import device_name
from featbank.runtime.rng import isolated_torch

__all__ = ["extraction_plan"]


def extraction_plan(job: Extraction, kept: KeptImages, dtype: str, *, refreshed: bool) -> BankPlan:
    """Return the plan of the bank that a job makes.

    Parameters
    ----------
    job : Extraction
        The network and how it is run.
    kept : KeptImages
        The images.
    dtype : {"float16", "float32"}
        How features are stored.
    refreshed : bool
        Whether the network's BatchNorm statistics were taken anew.
    """
    return BankPlan(
        dim=job.frozen.dim,
        rows=kept.split_rows(),
        class_names=list(kept.data.class_names),
        dtype=dtype,
        classifier=job.frozen.classifier,
        shots=kept.data.shots,
        provenance=_provenance(job, kept, dtype, refreshed=refreshed),
        skipped=kept.skipped(),
        batch=job.compute.batch_size,
        images=True,
        views=job.variation.n_views,
    )


def _provenance(
    job: Extraction, kept: KeptImages, dtype: str, *, refreshed: bool
) -> dict[str, Any]:
    """Return all that changes a feature. No path and no time: the same work, the same record."""
    compute, variation = job.compute, job.variation
    how: dict[str, Any] = {}
    if variation.n_views:
        with isolated_torch(0):  # it draws, also on the image that its fingerprint is of
            made_by = transform_record(variation.transform)
        how["views"] = {"seed": variation.seed, "transform": made_by}
    if refreshed:
        how["batchnorm"] = record(job.frozen.network, variation.seed, compute.batch_size)
    coarse = compute.use_autocast and compute.device.type == "cuda"
    return {
        "checkpoint": job.frozen.digest,
        "layer": job.frozen.layer,
        "backbone": job.frozen.backbone,
        "transform": transform_record(job.transform),
        "data": data_record(kept.data),
        "dtype": dtype,
        "autocast": "bfloat16" if coarse else "none",
        "device": device_name(compute.device),
        "versions": versions(),
        **how,
        **({} if job.frozen.recipe is None else {"recipe": dict(job.frozen.recipe)}),
    }
