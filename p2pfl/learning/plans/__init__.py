"""The shipped training plans, one file per family, and their registry.

A plan says which tensors a model has, how it starts, how it is built in torch, and which loss it
is trained with. Asking for a plan's schema, initial model or arguments imports no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.autoencoder import VAE
from p2pfl.learning.plans.classification import FUSION, IMAGES
from p2pfl.learning.plans.plan import Plan
from p2pfl.learning.plans.segmentation import SEGMENTATION
from p2pfl.learning.plans.survival import COX
from p2pfl.learning.plans.tabular import LOGISTIC, MLP

PLANS: Final[Mapping[str, Plan]] = {
    plan.name: plan for plan in (LOGISTIC, MLP, COX, VAE, SEGMENTATION, IMAGES, FUSION)
}


def plan_named(name: str) -> Plan:
    """The shipped plan of this name. Raises PlanRefused naming the nearest one."""
    try:
        return PLANS[name]
    except KeyError:
        nearest = difflib.get_close_matches(name, PLANS, n=1)
        hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
        raise PlanRefused(f'no plan "{name}" is shipped with this node{hint}') from None
