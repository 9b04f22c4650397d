"""`p2pfl ledger recover`: the own ledger after a loss, from what is left and what others mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossip.keys import read_keys
from ledger.log import Checkpoint, LedgerError, Log, Signer, note_verify, redaction_draft
from ledger.log.errors import SecretMissing
from ledger.log.own_kinds import commitment_in, redaction_in
from ledger.log.recovery import recover_tail
from ledger.provenance import kinds
from p2pfl.core.history import History
from p2pfl.runtime.commands.backups import MARKER
from p2pfl.runtime.commands.ledger_losses import (
    Dial,
    Found,
    Mending,
    OwnLog,
    all_entries,
    ask_enough,
    goes_on_already,
    names_of,
    own_log,
    require_stopped,
)
from p2pfl.runtime.commands.ledger_reading import ERASABLE
from p2pfl.runtime.commands.log_keys import settle_log_key
from p2pfl.runtime.commands.opening import Clock, required_roster
from p2pfl.runtime.commands.starting import newer_ledger
from p2pfl.runtime.config import read_config
from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home

LOST: Final = "lost-with-ledger"
"""The basis of a redaction that nobody wanted: erasable values leave no site, so none came back."""


@dataclass(frozen=True, slots=True)
class Recover(Mending):
    """confirmed: whether the person said to put the result in place."""


@dataclass(frozen=True, slots=True)
class LedgerRecovered:
    """The ledger is whole again, up to the largest head that any site holds of it."""

    size: int
    root: bytes
    kept: int
    """Entries that were still here …"""
    taken: int
    """… and that came from other sites."""
    asked: tuple[str, ...]
    given_by: tuple[str, ...]
    silent: tuple[str, ...]
    """Members that could not be asked."""
    damaged: Path
    """Where the old files are now."""
    datasets_missing: int
    """Registered datasets whose particulars (file, patients' hashes) are not in this home."""
    studies_missing: int
    """Approved studies whose manifest is not in this home."""
    secrets_lost: int
    """Erasable values (names of approvers) that were lost; the ledger says so from now on."""


def recover(
    home: Home,
    request: Recover,
    *,
    now_us: Clock,
    dial: Dial | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> LedgerRecovered:
    """Ask the other sites, rebuild, verify, put in place. Raises OperatorError, LedgerError."""
    require_stopped(home)
    with hold_home(home, purpose="ledger recover"):
        settle_log_key(home)
        keys, roster = read_keys(home.keys), required_roster(home)
        own = own_log(home, keys, roster)
        if goes_on_already(own):
            raise newer_ledger(read_config(home.config).name)
        found = ask_enough(own, dial, request, tell)
        _require_newest_key(own, found)
        _require_loss(own, found)
        if not request.confirmed:
            raise _unconfirmed(own, found)
        recovered = recover_tail(
            home.path,
            log_id=own.log_id,
            log=Signer(keys.log),
            source=all_entries(own, found),
            witnessed=found.notes,
        )
        (home.keys / MARKER).unlink(missing_ok=True)
        with closing(Log.open(home.path, log=Signer(keys.log))) as log:
            record = kinds.LogRecovered(recovered.kept, recovered.size - recovered.kept)
            lost = tuple(_lost_secrets(log))
            erased = [redaction_draft(seq, field, LOST, "operator") for seq, field in lost]
            log.append([record.draft("operator"), *erased], now_us())
            history = History(log.entries())
            size, root = log.checkpoint.size, log.checkpoint.root
    return LedgerRecovered(
        size=size,
        root=root,
        kept=recovered.kept,
        taken=recovered.size - recovered.kept,
        asked=names_of(roster, found.collected.answered),
        given_by=names_of(roster, tuple(found.collected.given_by)),
        silent=found.silent,
        damaged=recovered.damaged,
        datasets_missing=_datasets_missing(home, history),
        studies_missing=_studies_missing(home, history),
        secrets_lost=len(lost),
    )


def _require_newest_key(own: OwnLog, found: Found) -> None:
    """Raises OperatorError where the log goes on under a key that this home does not have."""
    shown = found.collected.log_keys
    if not shown or shown[-1].public_key == Signer(own.keys.log).public_key:
        return
    raise OperatorError(
        "This site's log key was replaced after this home, or its key backup, was made: the "
        "ledger goes on under a key that is not here.",
        fix="Restore a key backup that was made after `p2pfl ledger rotate-key` "
        "(`p2pfl keys restore`), then recover. If the newer key is lost: `p2pfl ledger "
        "new-incarnation`.",
        exit_code=EXIT_REFUSED,
    )


def _require_loss(own: OwnLog, found: Found) -> None:
    """Raises OperatorError if the ledger opens and nobody knows more of it."""
    try:
        with closing(Log.open(own.home.path, log=Signer(own.keys.log))) as log:
            size = log.checkpoint.size
            if own.sound < size:
                return  # opening looks at the end alone
            for note in found.notes:
                head = Checkpoint.parse(note_verify(note, *found.verifier_keys).text)
                if head.size > size or log.root_at(head.size) != head.root:
                    return
    except LedgerError:
        return
    raise OperatorError(
        f"Nothing is missing: the ledger has {size} entries, and no site knows of more.",
        fix="Start the node: `p2pfl node start`.",
        exit_code=EXIT_REFUSED,
    )


def _unconfirmed(own: OwnLog, found: Found) -> OperatorError:
    missing = [seq for seq in range(own.sound, found.size) if seq not in found.collected.entries]
    what = f"{own.sound} entries are whole here, {len(found.collected.entries)} came from others"
    gap = f"; {len(missing)} of {found.size} would still be missing" if missing else ""
    return OperatorError(
        f"{what}{gap}.",
        fix="Put the recovered ledger in place with --yes; the files that are here are kept aside.",
        exit_code=EXIT_REFUSED,
    )


def _lost_secrets(log: Log) -> Iterator[tuple[int, str]]:
    """Values that entries commit to, that are not here, and that no entry says were erased."""
    erased = {redaction_in(entry.kind, entry.body) for entry in log.entries()}
    for entry in log.entries():
        for field in ERASABLE.get(entry.kind, ()):
            if commitment_in(entry.body, field) is None or (entry.seq, field) in erased:
                continue
            try:
                log.open_secret(entry.seq, field)
            except SecretMissing:
                yield entry.seq, field


def _datasets_missing(home: Home, history: History) -> int:
    here = {dataset.ds for dataset in local_datasets(home)}
    return sum(1 for ds, known in history.datasets.items() if not known.revoked and ds not in here)


def _studies_missing(home: Home, history: History) -> int:
    wanted = [study for study, past in history.studies.items() if past.approval is not None]
    return sum(1 for study in wanted if not home.study(study).is_file())
