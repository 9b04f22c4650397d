"""The shipped training plans, one file per family, their registry, and a researcher's own.

A plan says which tensors a model has, how it starts, how it is built in torch, and which loss it
is trained with. Asking for a plan's schema, initial model or arguments imports no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.autoencoder import VAE
from p2pfl.learning.plans.classification import FUSION, IMAGES
from p2pfl.learning.plans.code import same_code_plan
from p2pfl.learning.plans.plan import Plan
from p2pfl.learning.plans.segmentation import SEGMENTATION
from p2pfl.learning.plans.survival import COX
from p2pfl.learning.plans.tabular import LOGISTIC, MLP
from p2pfl.runtime.confinement.standing import is_confined, keeps_text_out

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


def plan_of(manifest: Manifest) -> Plan:
    """The plan of a study: a shipped one, or the researcher's text, which is run for it.

    A text is run only in a process that gave up its rights before. Raises PlanRefused."""
    if manifest.bundle is not None:
        raise PlanRefused("a bundle is no plan: it runs in its study's training process alone")
    if manifest.code is None:
        return plan_named(manifest.plan.name)
    if not is_confined():
        raise PlanRefused(
            "code that a researcher wrote runs only in a confined process, and this one is not"
        )
    if keeps_text_out():
        raise PlanRefused("this study's code runs in gradient cells, and this process is none")
    plan = same_code_plan(manifest.code.text, manifest.data.images is not None)
    plan.check_ranges(manifest.plan.ranges)
    return plan
