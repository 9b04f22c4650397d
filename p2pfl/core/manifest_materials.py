"""Reading [start], [evaluate] and [standardise]: released models that a study builds on.

Responsible for the shape of the sections and for what contradicts the rest of the manifest. That
the entry they name exists is for the site that approves to look up.
"""

from __future__ import annotations

from typing import Final

from gossip.identifiers import Digest, SiteId
from p2pfl.core.errors import Inconsistent, OutOfRange
from p2pfl.core.manifest_table import Table
from p2pfl.core.manifest_terms import (
    COUNTING_PLANS,
    DataTerms,
    Material,
    PlanTerms,
    StudyId,
    StudyTerms,
    Use,
)

USES: Final[tuple[Use, ...]] = ("start", "evaluate", "standardise")
HOLDOUT_MIN: Final = 0.05
"""Of a study that trains: less could not tell a good model from a bad one."""
_KEYS: Final = ("model", "study", "site", "entry", "parameters")
_ENTRY_MAX: Final = 2**48
_PARAMETERS_MAX: Final = 500_000_000


def read_materials(root: Table) -> tuple[Material, ...]:
    """The sections that are there, in the order of `USES`. Raises ManifestError."""
    return tuple(_material(use, root.table(use, _KEYS)) for use in USES if root.has(use))


def _material(use: Use, table: Table) -> Material:
    return Material(
        use=use,
        model=Digest(table.digest("model")),
        study=StudyId(table.digest("study")),
        site=SiteId(table.digest("site")),
        entry=table.integer("entry", 0, _ENTRY_MAX),
        parameters=table.integer("parameters", 1, _PARAMETERS_MAX),
    )


def check_materials(
    materials: tuple[Material, ...], study: StudyTerms, plan: PlanTerms, data: DataTerms
) -> None:
    """Refuse sections that contradict the others. Raises Inconsistent, OutOfRange."""
    if data.holdout < HOLDOUT_MIN and plan.name not in COUNTING_PLANS:
        raise OutOfRange("data.holdout", expected=f"{HOLDOUT_MIN} to 0.9", actual=data.holdout)
    given = {material.use: material for material in materials}
    if ("evaluate" in given) != (plan.name == "evaluation"):
        raise Inconsistent("evaluate", 'belongs to plan.name = "evaluation", each needs the other')
    if "start" in given:
        _check_start(given["start"], study, plan)
    if "standardise" in given:
        if not data.columns:
            raise Inconsistent("standardise", "means nothing without [[data.columns]]")
        if plan.name == "statistics":
            raise Inconsistent("standardise", 'means nothing with plan.name = "statistics"')


def _check_start(start: Material, study: StudyTerms, plan: PlanTerms) -> None:
    if plan.name in COUNTING_PLANS:
        raise Inconsistent("start", f'means nothing with plan.name = "{plan.name}"')
    if start.model != study.initial_model:
        raise Inconsistent("start.model", "is not study.initial_model")
    if start.parameters != study.parameters:
        raise Inconsistent(
            "start.parameters", f"is {start.parameters}, study.parameters is {study.parameters}"
        )
