"""What `study new` writes for each plan unless the proposer says otherwise, and when to use which.

Only a start: every number is written into the manifest, where all sites see it before they
approve. docs/plans.md says what each argument means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pfl.core.manifest import Scalar
from p2pfl.core.manifest_bundle import BUNDLE_PLAN


@dataclass(frozen=True, slots=True)
class Recipe:
    """purpose: for people who choose; local_steps: without privacy, which counts its own."""

    purpose: str
    learning_rate: float
    local_steps: int
    arguments: Mapping[str, Scalar] = field(default_factory=dict)


RECIPES: Final[Mapping[str, Recipe]] = {
    "tabular-logistic": Recipe("a yes or no from a table; the safest choice", 0.5, 10),
    "tabular-mlp": Recipe("a yes or no from a larger table", 0.5, 10, {"hidden": 64}),
    "tabular-cox": Recipe("how soon something happens, from a table", 0.5, 10),
    "tabular-vae": Recipe(
        "a map of patients from a table without a target",
        0.003,
        50,
        {"hidden": 64, "latent": 2, "batch_size": 32, "optimiser": "adam"},
    ),
    "segmentation": Recipe("regions of images: UNet or SegResNet, 2D or 3D", 0.01, 25),
    "image-classification": Recipe("a yes or no from images: DenseNet or ResNet", 0.003, 25),
    "image-table-fusion": Recipe("a yes or no from images and a table together", 0.003, 25),
}
_PLAIN: Final = Recipe("", 0.5, 10)


def recipe_arguments(
    plan: str, given: Mapping[str, Scalar], *, is_private: bool
) -> dict[str, Scalar]:
    """The manifest's arguments: the recipe's, and over them what the proposer gave."""
    if plan == BUNDLE_PLAN:  # its configuration has them all
        return dict(given)
    recipe = RECIPES.get(plan, _PLAIN)
    written: dict[str, Scalar] = {"learning_rate": recipe.learning_rate, "momentum": 0.9}
    if not is_private:
        written["local_steps"] = recipe.local_steps
    return written | dict(recipe.arguments) | dict(given)
