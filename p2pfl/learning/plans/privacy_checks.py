"""What differential privacy cannot stand on, refused by name before a study starts.

The clipping is only as good as the claim that a patient's gradient depends on that patient alone,
and is found exactly. What breaks it is refused here with what to use instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.plans.arguments import Arguments

TYING_LOSSES: Final[Mapping[str, str]] = {
    "dice-batch": 'loss = "dice" or loss = "dice-ce"',
    "partial": 'loss = "piecewise" with a horizon',
}
"""Losses in which the patients of a batch depend on each other, and what stands in for them."""


def check_privacy(arguments: Arguments, privacy: PrivacyTerms) -> None:
    """Raises PlanRefused, PrivacyRefused."""
    if arguments.clipping == "ghost":
        if privacy.is_private:
            raise PrivacyRefused(
                'clipping = "ghost" bounds gradients by a norm that is wrong for these losses, so '
                'nobody would be protected: use clipping = "hooks"'
            )
        raise PlanRefused('clipping = "ghost" means nothing without privacy: leave it out')
    if arguments.norm == "batch":
        if privacy.is_private:
            raise PrivacyRefused(
                'norm = "batch" computes with several patients at once, so no single patient\'s '
                'share can be clipped: use norm = "instance" or norm = "group"'
            )
        raise PlanRefused(
            'norm = "batch" keeps running statistics of patients outside the model vector: use '
            'norm = "instance" or norm = "group"'
        )
    if not privacy.is_private or privacy.is_by_update:
        return  # nothing depends on a single patient's share
    instead = TYING_LOSSES.get(arguments.loss)
    if instead is not None:
        raise PrivacyRefused(
            f'loss = "{arguments.loss}" ties the patients of a batch together, so no single '
            f"patient's share can be clipped: use {instead}"
        )
    if arguments.precision == "mixed":
        raise PrivacyRefused(
            'precision = "mixed" rounds gradients before they are clipped: use precision = "full"'
        )
