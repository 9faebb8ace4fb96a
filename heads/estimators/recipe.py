"""The parameters that cRT and LWS share."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor

from heads._params import MOST_DECAY, check_number, check_one_of, check_random_state
from heads.errors import HeadInputError
from heads.solvers.sgd import Recipe

__all__ = ["SOLVERS", "RecipeParams"]

SOLVERS = ("exact", "sgd")


class RecipeParams:
    """Mixin of the heads that can learn by the paper's SGD recipe.

    A parameter that is None stands for the recipe's value.
    """

    solver: str
    lr: float | None
    momentum: float
    weight_decay: float | None
    batch: int | None
    epochs: int | None
    per_class: int
    random_state: Any
    views: int
    weight: Any
    bias: Any

    _default_epochs = 10

    def _recipe(self) -> Recipe:
        """Return the numbers of the SGD fit, with the recipe's where a parameter is None."""
        given = {
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "batch": self.batch,
            "epochs": self._default_epochs if self.epochs is None else self.epochs,
            "q": getattr(self, "q", 0.0),
            "n_views": max(1, self.views),
        }
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return Recipe(momentum=self.momentum, per_class=self.per_class, **chosen)

    def _company(self) -> Hashable | None:
        if self.solver != "sgd":
            return None
        return type(self), self.views, self._recipe().batch, id(self.weight), id(self.bias)

    def _check_params(self) -> None:
        owner = type(self).__name__
        check_one_of(owner, "solver", self.solver, SOLVERS)
        check_number(owner, "views", self.views, low=0, whole=True)
        recipe = self._recipe()
        given = [name for name in ("lr", "batch", "epochs") if getattr(self, name) is not None]
        if self.solver == "exact" and given:
            message = f"{owner}: {', '.join(given)}: only for solver='sgd', not for 'exact'"
            raise HeadInputError(message)
        check_number(owner, "lr", recipe.lr, low=0, above=True)
        check_number(owner, "momentum", recipe.momentum, low=0, high=1)
        check_number(owner, "weight_decay", recipe.weight_decay, low=0, high=MOST_DECAY)
        check_random_state(owner, self.random_state)
        for name in ("batch", "epochs", "per_class"):
            check_number(owner, name, getattr(recipe, name), low=1, whole=True)

    def _first_view(self, y_idx: Tensor) -> Tensor:
        """Return the labels of every row once.

        Raises
        ------
        HeadInputError
            Rows and labels are no `views` views of the same rows.
        """
        if self.views < 2:
            return y_idx
        n_rows = len(y_idx) // self.views
        whole = len(y_idx) == n_rows * self.views
        if not whole or not bool((y_idx.view(self.views, n_rows) == y_idx[:n_rows]).all()):
            message = (
                f"{type(self).__name__}: views={self.views} wants the same rows that often, one "
                f"view after another; got {len(y_idx)} rows whose labels do not repeat like that"
            )
            raise HeadInputError(message)
        return y_idx[:n_rows]
