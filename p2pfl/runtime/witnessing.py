"""The thread in which this site witnesses other logs and has its own witnessed.

It alone holds `witness.db`; rounds never wait for it, nor it for the own log's commits. What comes
in waits in a bounded queue, in which members take turns: they repeat themselves, so what does not
fit is dropped. What has to be told or known is handed to the loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.public import PublicKey, SealedBox
from nacl.signing import VerifyKey

from gossip.identifiers import SiteId
from gossip.roster import Roster
from ledger.log import Entry, Signer
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from ledger.provenance.readers import Readers, readers_of
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.witnessing import Witnessing
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.fair_queue import OWN, FairQueue
from p2pfl.runtime.home import Home, write_durably

WAITING_MAX: Final = 2_048
TICK_S: Final = 0.5
HEADS_TOGETHER_MAX: Final = 64
"""Heads that came with updates wait for the next tick, or until there are so many."""
OFFLINE_WAIT_S: Final = 10.0
"""How long a peer's word is waited for where the operator said to go on without."""


@dataclass(frozen=True, slots=True)
class WitnessGiven:
    """What the thread is given from outside."""

    home: Path
    site: SiteId
    roster: Roster
    own: terms.OwnLogView
    witness: Signer
    identity_pk: bytes
    study_sites: Callable[[bytes], Sequence[SiteId]]
    """Who takes part in a study, by its manifest; nobody if it is unknown here."""
    clock_s: Callable[[], float]
    must_ask: bool
    """Whether another site has to confirm the own log before it is shown."""
    offline_ok: bool
    faulty: int | None = None
    """How many witnesses may lie, if the policy says so."""


class WitnessThread:
    """Starts at once; `perform` and `fail` are called on the loop."""

    def __init__(
        self,
        given: WitnessGiven,
        perform: Callable[[Sequence[terms.WitnessOutput]], None],
        fail: Callable[[Exception], None],
    ) -> None:
        self._given = given
        self._perform = perform
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._waiting = FairQueue[terms.WitnessInput](WAITING_MAX)
        self.dropped = 0
        """Inputs that found the queue full."""
        self._thread = threading.Thread(target=self._run, name="witness", daemon=True)
        self._is_stopping = False

    def start(self) -> None:
        """Compare the own log with what is held of it, then listen."""
        self._thread.start()

    def give(self, given: terms.WitnessInput) -> None:
        """Have something looked at. Returns at once."""
        self.dropped += not self._waiting.put(_caused_by(given), given)

    @property
    def waiting(self) -> int:
        """Inputs that were not looked at yet."""
        return len(self._waiting)

    async def stop(self) -> None:
        """End after what is being looked at now."""
        self._is_stopping = True
        self._waiting.close()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    # -- in the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            book = WitnessDatabase.open(self._given.home / WITNESS_NAME)
            try:
                self._witness(book)
            finally:
                book.close()
        except Exception as error:
            self._hand_over(self._fail, error)

    def _witness(self, book: WitnessDatabase) -> None:
        given = self._given
        witnessing = Witnessing(
            me=given.site,
            roster=given.roster,
            book=book,
            own=given.own,
            witness=given.witness,
            seal=sealer(given.identity_pk),
            may_read=reader_check(given.study_sites),
            faulty=given.faulty,
        )
        started_s = ticked_s = given.clock_s()
        self._out(witnessing.begin(started_s, must_ask=given.must_ask))
        heads: list[terms.HeadSeen] = []
        while not self._is_stopping:
            taken = self._waiting.get(TICK_S)
            now_s = given.clock_s()
            if isinstance(taken, terms.HeadSeen):
                heads.append(taken)
            elif taken is not None:
                self._out(witnessing.handle(now_s, taken))
            is_due = not 0.0 <= now_s - ticked_s < TICK_S
            if is_due or len(heads) >= HEADS_TOGETHER_MAX:
                self._out(_seen_together(book, witnessing, heads, now_s))
                heads = []
            if is_due:
                ticked_s = now_s
                self._out(witnessing.handle(now_s, terms.Tick()))
                if given.offline_ok and now_s - started_s >= OFFLINE_WAIT_S:
                    self._out(witnessing.go_on_offline())
        _seen_together(book, witnessing, heads, given.clock_s())  # kept; told at the next start

    def _out(self, outputs: list[terms.WitnessOutput]) -> None:
        for output in outputs:
            if isinstance(output, terms.ForkKept):
                keep_fork(Home(self._given.home), output)
        if outputs:
            self._hand_over(self._perform, outputs)

    def _hand_over(self, call: Callable[..., None], what: object) -> None:
        if not self._is_stopping and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, what)


def _caused_by(given: terms.WitnessInput) -> bytes | None:
    match given:
        case terms.Said(sender=sender):
            return sender
        case terms.HeadSeen(log_id=log_id):
            return log_id
        case _:
            return OWN


def _seen_together(
    book: WitnessDatabase, witnessing: Witnessing, heads: Sequence[terms.HeadSeen], now_s: float
) -> list[terms.WitnessOutput]:
    """Compare heads that came with updates; one fsync for all of them, as nobody waits for it."""
    outputs: list[terms.WitnessOutput] = []
    if heads:
        with book.together():
            for head in heads:
                outputs += witnessing.handle(now_s, head)
    return outputs


def keep_fork(home: Home, kept: terms.ForkKept) -> None:
    """Put a proof where people find it, once. A disk that refuses delays it to the next start:
    the witness's own file has it, too."""
    path = home.forks / kept.file
    if path.exists():
        return
    with contextlib.suppress(OSError, OperatorError):
        home.forks.mkdir(mode=0o700, exist_ok=True)
        write_durably(path, kept.proof)


def sealer(identity_pk: bytes) -> terms.Seal:
    """Encrypts to the identity key: its secret half is in the backup, so a mirror can help."""
    box = SealedBox(PublicKey(bytes(VerifyKey(identity_pk).to_curve25519_public_key())))

    def seal(raw: bytes) -> bytes:
        return bytes(box.encrypt(raw))

    return seal


def reader_check(study_sites: Callable[[bytes], Sequence[SiteId]]) -> terms.MayRead:
    """Who may have an entry in plain, by its kind and the study that it names."""

    def may_read(site: SiteId, entry: Entry) -> bool:
        match readers_of(entry.kind):
            case Readers.EVERYONE:
                return True
            case Readers.STUDY:
                study = entry.body.get("study")
                return isinstance(study, bytes) and site in study_sites(study)
            case Readers.SELF:
                return False

    return may_read
