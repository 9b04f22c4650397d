"""What goes with a site from a lost log into the next: its datasets, and what they have spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ledger.log import Draft, Entry
from ledger.log.genesis import parse_genesis
from ledger.provenance import kinds
from ledger.provenance.records_site import ANY_DATA
from p2pfl.core.history import History
from p2pfl.runtime.commands.lost_data import has_gap, names_earlier_gap

PURPOSE = "carried-over"
"""Of the `privacy.spent` entries that stand for trainings of the log before."""
_ACTOR = "operator"


@dataclass(frozen=True, slots=True)
class Carried:
    """Entries of the new log. exhausted: datasets of which nobody knows all that was spent."""

    drafts: tuple[Draft, ...]
    datasets: int
    exhausted: int


@dataclass(slots=True)
class _Account:
    """One dataset in the old log. spent: (study, mechanism, σ, q) → terms, steps summed."""

    terms: kinds.DatasetRegistered
    is_revoked: bool = False
    spent: dict[tuple[bytes, str, str, str], kinds.DpTerms] = field(default_factory=dict)
    accepted: list[kinds.SpendingAccepted] = field(default_factory=list)
    is_unknown: bool = False


def carried_over(entries: Iterable[Entry], log_id: bytes, missing_from: int, size: int) -> Carried:
    """Registrations, spending and decisions, from the entries of the old log that are known.

    missing_from, size: entries [missing_from, size) are not all known."""
    listed = tuple(entries)
    accounts = _accounts(listed)
    totals = {ds: known for ds, known in History(_renumbered(listed)).datasets.items()}
    drafts, exhausted = list[Draft](), 0
    for ds, account in accounts.items():
        if account.is_revoked and not account.spent:
            continue
        known = totals[ds]  # type: ignore[index]  # the same digest
        total_u = known.known_u if known.is_unknown else known.spent_u
        drafts.append(account.terms.draft(_ACTOR))
        drafts += [
            kinds.PrivacySpent(study, ds, PURPOSE, dp, total_u).draft(_ACTOR)
            for (study, *_), dp in sorted(account.spent.items())
        ]
        is_unknown = known.is_unknown or missing_from < size
        if account.accepted:
            drafts += _decisions(account, log_id)
        if is_unknown:
            exhausted += 1
            gap = missing_from if missing_from < size else -1
            drafts.append(kinds.SpendingUnknown(ds, log_id, gap).draft(_ACTOR))
        if account.is_revoked:
            drafts.append(kinds.DatasetRevoked(ds, "revoked-before").draft(_ACTOR))
    if _lost_before(listed):
        drafts.append(kinds.SpendingUnknown(ANY_DATA, log_id, -1).draft(_ACTOR))
    return Carried(tuple(drafts), len(accounts), exhausted)


def _lost_before(entries: tuple[Entry, ...]) -> bool:
    """Whether a log before this one lost entries: the next one's genesis says nothing of it."""
    first = entries[0] if entries and entries[0].seq == 0 else None
    return names_earlier_gap(entries) or (first is not None and has_gap(parse_genesis(first.raw)))


def _decisions(account: _Account, log_id: bytes) -> Iterator[Draft]:
    """Earlier decisions stand: each one after the statement that something was unknown."""
    for accepted in account.accepted:
        yield kinds.SpendingUnknown(accepted.ds, log_id, -1).draft(_ACTOR)
        yield accepted.draft("data-manager")


def _accounts(entries: Iterable[Entry]) -> dict[bytes, _Account]:
    accounts: dict[bytes, _Account] = {}
    for entry in entries:
        if entry.kind == kinds.GENESIS_KIND:
            continue
        match kinds.parse(entry):
            case kinds.DatasetRegistered() as terms:
                accounts.setdefault(terms.ds, _Account(terms)).terms = terms
            case kinds.DatasetRevoked(ds=ds) if ds in accounts:
                accounts[ds].is_revoked = True
            case (
                kinds.TrainDone(study=study, ds=ds, dp=dp)
                | kinds.PrivacySpent(study=study, ds=ds, dp=dp)
            ) if ds in accounts:
                _add(accounts[ds], study, dp)
            case kinds.SpendingAccepted(ds=ds) as accepted if ds in accounts:
                accounts[ds].accepted.append(accepted)
            case _:
                pass  # nothing else follows a site into another log
    return accounts


def _add(account: _Account, study: bytes, dp: kinds.DpTerms) -> None:
    key = (study, dp.mech, dp.sigma, dp.q)
    earlier = account.spent.get(key)
    account.spent[key] = dp if earlier is None else replace(dp, steps=dp.steps + earlier.steps)


def _renumbered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """As the fold wants them: it looks at numbers only to leave out what it has seen."""
    return iter(sorted(entries, key=lambda entry: entry.seq))
