"""Options for sites with different patients: what goes together, before anything is trained.

Must not import torch. What the options do is in `p2pfl.learning.corrections` and `at_home`.
"""

from __future__ import annotations

from p2pfl.core.manifest_terms import PrivacyTerms
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.plans.arguments import Arguments


def check_options(plan: str, arguments: Arguments, privacy: PrivacyTerms) -> None:
    """Raises PlanRefused or PrivacyRefused for options that do not go together."""
    if arguments.correction != "none" and arguments.optimiser != "sgd":
        raise PlanRefused(
            f'plan "{plan}": correction = "{arguments.correction}" needs optimiser = "sgd"'
        )
    if arguments.correction == "quasi-global" and not arguments.momentum:
        raise PlanRefused(
            f'plan "{plan}": correction = "quasi-global" needs momentum above 0: it is where each '
            "round starts from"
        )
    if arguments.correction == "control" and arguments.momentum:
        raise PlanRefused(
            f'plan "{plan}": correction = "control" needs momentum = 0: its variates are read from '
            "how far the model moved, which momentum would stretch"
        )
    if arguments.frozen != "none" and arguments.at_home != "none":
        raise PlanRefused(
            f'plan "{plan}": frozen and at_home together leave little to learn from each other: '
            "choose one"
        )
    if arguments.frozen != "none" and privacy.is_by_update:
        raise PlanRefused(
            f'plan "{plan}": unit = "site" noises the whole update, what is frozen, too: leave '
            'frozen out, or protect each patient with unit = "patient"'
        )
    if arguments.consolidation and privacy.is_private:
        raise PrivacyRefused(
            f'plan "{plan}": consolidation needs the Fisher information of the own patients, which '
            "costs privacy that nobody accounts for: leave it out, or use proximal"
        )
