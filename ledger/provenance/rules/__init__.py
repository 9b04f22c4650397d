"""The rules, one file per family, and the order in which the audit asks them.

To add a rule: put it into its family's file and into that family's check; to add a family, add
its `CHECKS` here."""

from ledger.provenance.findings import Check
from ledger.provenance.rules import (
    adoption,
    approvals,
    artefacts,
    averaging,
    budget,
    choice,
    clock,
    code,
    datasets,
    integrity,
    keys,
    losses,
    membership,
    offline,
    pausing,
    peers_conduct,
    peers_history,
    peers_updates,
    receipts,
    replay,
    steering,
    training,
)

CHECKS: tuple[Check, ...] = (
    *integrity.CHECKS,
    *approvals.CHECKS,
    *datasets.CHECKS,
    *adoption.CHECKS,
    *code.CHECKS,
    *training.CHECKS,
    *choice.CHECKS,
    *steering.CHECKS,
    *pausing.CHECKS,
    *budget.CHECKS,
    *losses.CHECKS,
    *receipts.CHECKS,
    *averaging.CHECKS,
    *artefacts.CHECKS,
    *replay.CHECKS,
    *clock.CHECKS,
    *keys.CHECKS,
    *membership.CHECKS,
    *peers_history.CHECKS,
    *peers_updates.CHECKS,
    *peers_conduct.CHECKS,
    *offline.CHECKS,
)
