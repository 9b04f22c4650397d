"""Verifying and auditing the site's own ledger, from a snapshot, beside a running node."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from gossip.identifiers import site_id_of
from gossip.limits import MANIFEST_BYTES_MAX
from ledger.log import Entry, ExitCode, LedgerError, LogReader, OnDamage
from ledger.log.findings import SigCheck, Verification
from ledger.log.verification import verify_log
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import (
    RECOMPUTED_MAX,
    AuditContext,
    Demand,
    DpEvent,
    Replay,
    Replayed,
    Scope,
)
from ledger.provenance.kinds import AggDone, StudyApproved
from ledger.provenance.witnessing import Witnessing
from p2pfl.averaging import AveragingError
from p2pfl.core.errors import ManifestError
from p2pfl.core.manifest import parse_manifest
from p2pfl.privacy import accounting
from p2pfl.privacy.errors import PrivacyError
from p2pfl.privacy.events import DpEvent as PrivacyEvent
from p2pfl.privacy.events import parse_event
from p2pfl.runtime.averaging_job import averaging_environment, mix
from p2pfl.runtime.blobs import BlobStore, bytes_of_vector
from p2pfl.runtime.commands.decisions import APPROVER_FIELD
from p2pfl.runtime.commands.ledger_peers import gather_peers
from p2pfl.runtime.commands.ledger_vouching import witnessing_at
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.errors import EXIT_USAGE, BlobError, OperatorError
from p2pfl.runtime.home import Home, read_own
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.policy import read_policy

__all__ = ["ExitCode", "SigCheck", "Verification", "run_audit", "verify_log"]


EVERYTHING: Final = Scope()
ERASABLE: Final = {StudyApproved.KIND: (APPROVER_FIELD,)}
"""Secrets that must open their commitment until a `redacted` entry says that they are gone."""


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """The newest signed head of this site's log."""

    origin: str
    size: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True)
class EntrySeen:
    """One entry, for people and programs; bytes as hex."""

    seq: int
    time: str
    kind: str
    actor: str
    leaf: bytes
    body: Mapping[str, Json]


def ledger_head(home: Home) -> HeadSeen:
    """The last released head. Raises LedgerError."""
    reader = LogReader.open(home.path)
    try:
        head = reader.checkpoint
        return HeadSeen(head.origin, head.size, head.root, reader.note.decode())
    finally:
        reader.close()


def ledger_show(home: Home, start: int | None, count: int) -> tuple[EntrySeen, ...]:
    """`count` entries from `start` on, or the last ones. Raises LedgerError."""
    reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    try:
        _check_start(start or 0, reader.checkpoint.size)
        first = max(0, reader.checkpoint.size - count) if start is None else start
        return tuple(_seen(entry) for entry in reader.entries(first, first + count))
    finally:
        reader.close()


def verify_from(home: Home, sigs: SigCheck, start: int) -> Verification:
    """Verify the log from entry `start` on. Raises OperatorError if there is no such entry."""
    checked = verify_log(home.path, sigs=sigs, start=start, erasable=ERASABLE)
    _check_start(start, checked.size)
    return checked


def _check_start(start: int, size: int) -> None:
    if start and start >= size:
        raise OperatorError(
            f"The ledger has no entry {start}.",
            fix=f"Give --from a number from 0 to {max(0, size - 1)}.",
            exit_code=EXIT_USAGE,
        )


def run_audit(
    home: Home,
    *,
    replay: bool,
    now_us: int,
    peers: Sequence[Path] | None = None,
    scope: Scope = EVERYTHING,
    demand: Demand = Demand.WHAT_IS_THERE,
    recomputed_max: int | None = RECOMPUTED_MAX,
) -> AuditReport:
    """Every rule over the whole log, with ε recomputed and averages computed again.

    peers: what to compare with besides the home's own witness.db: other sites' homes, copies of
    their ledgers, fork proofs; None leaves every comparison out. scope: what is told of it.
    recomputed_max: places per dataset where an ε that takes seconds is computed, None for all.
    Raises LedgerError if there is no log to read at all, OperatorError for a path that holds
    nothing to compare with.
    """
    roster = installed_roster(home)
    # Others' copies before the own log: what they know of it, it must hold when it is read.
    evidence = None if peers is None else gather_peers(home, roster, peers)
    verification = verify_log(home.path, sigs=SigCheck.ALL, erasable=ERASABLE)
    asked = replace(
        _context(home, verification, now_us),
        peers=evidence,
        scope=scope,
        demand=demand,
        recomputed_max=recomputed_max,
    )
    try:
        reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    except LedgerError:
        if not verification.findings:
            raise
        # Without a genesis entry nobody can say whose log it is; that is the report.
        return audit((), asked, epsilon_of=epsilon_of)
    try:
        store = BlobStore(home.blobs)
        context = replace(
            asked,
            site=site_id_of(reader.identity.identity_pk),
            origin=reader.origin,
            blob=lambda digest: store.path(digest) if store.has(digest) else None,
        )
        return audit(
            reader.entries(),
            context,
            epsilon_of=epsilon_of,
            replay=replay_from(store) if replay else None,
        )
    finally:
        reader.close()


def _context(home: Home, verification: Verification, now_us: int) -> AuditContext:
    """What an audit needs besides the log itself, from the rest of the home."""
    return AuditContext(
        site=b"",
        verification=verification,
        now_us=now_us,
        names=site_names(home),
        study_names=study_names(home),
        dataset_names=_dataset_names(home),
        approver_roles=_approver_roles(home),
        witnessing=_witnessing(home),
    )


def _witnessing(home: Home) -> Witnessing | None:
    try:
        return witnessing_at(home)
    except LedgerError:
        return None  # a damaged witness.db says nothing; the node's start tells of it


def epsilon_of(events: Sequence[DpEvent], delta: float) -> float:
    """ε of recorded events by the node's own accountant. Raises ValueError."""
    try:
        return accounting.epsilon([_event(event) for event in events], delta)
    except PrivacyError as error:
        raise ValueError(str(error)) from error


def _event(event: DpEvent) -> PrivacyEvent:
    return parse_event(event.mech, repr(event.sigma), repr(event.q), event.steps)


def replay_from(store: BlobStore) -> Replay:
    """Average recorded inputs again from the models kept in a store."""

    def replayed(done: AggDone, files: Mapping[bytes, Path]) -> Replayed:
        """Average the recorded inputs again, from the files kept under their digests."""
        del files  # the store verifies each digest as it reads
        try:
            d = store.check(done.out_hash).parameters
            recorded = store.read_vector(done.out_hash, d)
            inputs = [(item.hash, item.weight_u) for item in done.inputs]
            mixed = mix(store, done.rule, done.rule_params, done.own.hash, inputs, d)
        except (BlobError, AveragingError) as error:
            raise ValueError(str(error)) from error
        gap = np.abs(mixed.value.astype(np.float64) - recorded.astype(np.float64))
        return Replayed(
            out_hash=hashlib.sha256(bytes_of_vector(mixed.value)).digest(),
            distance=float(gap.max(initial=0.0)),
            same_environment=done.env_hash == averaging_environment(),
        )

    return replayed


def site_names(home: Home) -> dict[bytes, str]:
    """The sites of the roster in force, by id."""
    roster = installed_roster(home)
    return {card.site: card.name for card in roster.members} if roster else {}


def study_names(home: Home) -> dict[bytes, str]:
    """The studies whose manifests are kept, by id."""
    names: dict[bytes, str] = {}
    for path in sorted(home.studies.glob("*.toml")):
        try:
            manifest = parse_manifest(read_own(path, MANIFEST_BYTES_MAX))
        except (ManifestError, OSError):
            continue  # an audit reads what it can; the entry still names the study
        names[manifest.study_id] = manifest.study.name
    return names


def _dataset_names(home: Home) -> dict[bytes, str]:
    try:
        return {dataset.ds: dataset.name for dataset in local_datasets(home)}
    except OperatorError:
        return {}


def _approver_roles(home: Home) -> frozenset[str]:
    policy, _ = read_policy(home.policy)
    return frozenset(policy.roles)


def _seen(entry: Entry) -> EntrySeen:
    moment = datetime.datetime.fromtimestamp(entry.time_us / 1e6, datetime.UTC)
    return EntrySeen(
        seq=entry.seq,
        time=moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        kind=entry.kind,
        actor=entry.actor,
        leaf=entry.leaf,
        body={key: _plain(value) for key, value in entry.body.items()},
    )


def _plain(value: object) -> Json:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case bool() | int() | str():
            return value
    raise TypeError(f"{type(value).__name__} does not occur in an entry")
