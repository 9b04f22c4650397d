"""Manifest options about rounds: old updates, sites that stop or work by the clock, what stays."""

from __future__ import annotations

from typing import Final, cast

from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest_table import Table
from p2pfl.core.manifest_terms import (
    COUNTING_PLANS,
    AveragingTerms,
    Kept,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
)

ROUNDS_MAX: Final = 1000
"""An approval records ε after each of them."""
STALENESS_MAX: Final = 8
"""Rounds: an older update says little, and each one held costs memory."""
PATIENCE_MAX: Final = 1000
WORK_LIMIT_MIN_S: Final = 0.01
WORK_LIMIT_MAX_S: Final = 7 * 86_400.0
KEPT: Final = ("last", "best")
OWN_DECISIONS: Final = ("patience", "work_limit_s", "keep")
"""Keys of [study] by which a site may do something else than its neighbours."""


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


def read_work_limit(table: Table) -> float:
    """`study.work_limit_s`; 0 where it is not written. Raises ManifestError."""
    if not table.has("work_limit_s"):
        return 0.0
    return table.number("work_limit_s", WORK_LIMIT_MIN_S, WORK_LIMIT_MAX_S)


def read_keep(table: Table) -> Kept:
    """`study.keep`; "last" where it is not written. Raises ManifestError."""
    return cast(Kept, table.choice("keep", KEPT)) if table.has("keep") else "last"


def check_rounds(
    study: StudyTerms, plan: PlanTerms, privacy: PrivacyTerms, averaging: AveragingTerms
) -> None:
    """Whether what a site may decide by itself goes with the rest. Raises Inconsistent."""
    for name in (name for name in OWN_DECISIONS if getattr(study, name) not in (0, "last")):
        if plan.name in COUNTING_PLANS:
            raise Inconsistent(f"study.{name}", "means nothing for a plan that counts once")
    _check_patience(study, privacy, averaging)
    _check_work_limit(study, plan, privacy)
    if study.keep == "best" and privacy.is_private:
        # Which round was best is decided by patients, and everybody sees it: no ε pays for that.
        raise Inconsistent(
            "study.keep",
            'is "best", which is chosen by looking at patients again, and no ε pays for that: '
            "leave it out with privacy",
        )


def _check_patience(study: StudyTerms, privacy: PrivacyTerms, averaging: AveragingTerms) -> None:
    """A site may stop training only where nobody learns of patients by it."""
    if not study.patience:
        return
    if privacy.is_private:
        # When a site stops is seen by all, and its hold-out decides: no ε pays for that.
        raise Inconsistent("study.patience", "looks at patients again: leave it out with privacy")
    if averaging.encoding != "float32":
        raise Inconsistent(
            "study.patience",
            f'goes with encoding = "float32", not "{averaging.encoding}": what is only mixed is '
            "exchanged unrounded, and others have to know its size beforehand",
        )


def _check_work_limit(study: StudyTerms, plan: PlanTerms, privacy: PrivacyTerms) -> None:
    """Steps may end early only where nothing counts on how many there are."""
    if not study.work_limit_s:
        return
    if privacy.is_private:
        raise Inconsistent(
            "study.work_limit_s",
            "ends a round's steps by the clock, but privacy is paid for a fixed number of them: "
            "leave it out with privacy, and lower steps_per_round for slow sites",
        )
    correction = plan.arguments.get("correction", "none")
    if correction != "none":
        raise Inconsistent(
            "study.work_limit_s",
            f'does not go with correction = "{correction}", which takes every site for having '
            "made the same steps: leave one of the two out; proximal bears unequal steps",
        )
    if study.work_limit_s > study.round_deadline_s:
        raise Inconsistent(
            "study.work_limit_s",
            f"is {study.work_limit_s:g} s, but others wait at most {study.round_deadline_s:g} s "
            "for a site (round_deadline_s)",
        )
