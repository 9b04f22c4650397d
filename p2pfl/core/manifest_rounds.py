"""Manifest options about rounds that go on without somebody: old updates, and sites that stop."""

from __future__ import annotations

from typing import Final

from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest_table import Table
from p2pfl.core.manifest_terms import (
    COUNTING_PLANS,
    AveragingTerms,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
)

STALENESS_MAX: Final = 8
"""Rounds: an older update says little, and each one held costs memory."""
PATIENCE_MAX: Final = 1000


def read_staleness(table: Table, plan: PlanTerms) -> int:
    """`averaging.staleness`; 0 where it is not written. Raises ManifestError."""
    if not table.has("staleness"):
        return 0
    if plan.name in COUNTING_PLANS:
        raise Inconsistent(table.at("staleness"), "would count patients of an old round again")
    return table.integer("staleness", 0, STALENESS_MAX)


def read_patience(table: Table) -> int:
    """`study.patience`; 0 where it is not written. Raises ManifestError."""
    return table.integer("patience", 1, PATIENCE_MAX) if table.has("patience") else 0


def check_patience(
    study: StudyTerms, plan: PlanTerms, privacy: PrivacyTerms, averaging: AveragingTerms
) -> None:
    """A site may stop training only where nobody learns of patients by it. Raises Inconsistent."""
    if not study.patience:
        return
    if privacy.is_private:
        # When a site stops is seen by all, and its hold-out decides: no ε pays for that.
        raise Inconsistent("study.patience", "looks at patients again: leave it out with privacy")
    if plan.name in COUNTING_PLANS:
        raise Inconsistent("study.patience", "means nothing for a plan that counts once")
    if averaging.encoding != "float32":
        raise Inconsistent(
            "study.patience",
            f'goes with encoding = "float32", not "{averaging.encoding}": what is only mixed is '
            "exchanged unrounded, and others have to know its size beforehand",
        )
