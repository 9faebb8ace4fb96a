"""Stage 1: training a network on long-tailed images.

`train_by_name` trains on a data set that is named, as the command line does; `TrainConfig` holds
every choice of a training. Both are imported when they are first asked for, because torch takes
seconds to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heads.lazy import lazy_names

if TYPE_CHECKING:
    from featbank.stage1.config import TrainConfig
    from featbank.stage1.recipe import shot_metrics, train_by_name

__all__ = ["TrainConfig", "shot_metrics", "train_by_name"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "TrainConfig": "featbank.stage1.config",
        "shot_metrics": "featbank.stage1.recipe",
        "train_by_name": "featbank.stage1.recipe",
    },
)
