"""Witnessing as a state machine: cosigning others' heads, having the own cosigned, finding forks.

It does no I/O of its own: the `WitnessBook` persists before it returns. Nothing that a peer sends
makes it raise or grow: what breaks a rule comes out as `PeerRefused`.

Order matters in one place: nothing of the own log is shown before another site has said which head
of it it knows (`is_confirmed`), and a head is persisted before it is cosigned."""

from typing import assert_never

from gossip.errors import PeerError
from gossip.identifiers import SiteId
from gossip.roster import Roster
from gossip.witness_messages import (
    CosignAnswered,
    CosignRequested,
    EntriesSent,
    EntriesWanted,
    ForkTold,
    HeadsHeld,
    KeysShown,
    LeavesSent,
    LeavesWanted,
    WitnessMessage,
)
from ledger.log import (
    LedgerError,
    LogId,
    Signer,
    Status,
    Witness,
)
from ledger.log.errors import StoreError
from ledger.log.witness import parse_request
from p2pfl.core import events as ev
from p2pfl.core import witnessing_terms as terms
from p2pfl.core.witnessing_asking import Asking
from p2pfl.core.witnessing_forks import ForkProofs
from p2pfl.core.witnessing_hearing import HeadsHearing
from p2pfl.core.witnessing_keys import KeysKnown
from p2pfl.core.witnessing_mirrors import Mirrors
from p2pfl.core.witnessing_own import OwnHistory, checkpoint_of
from p2pfl.core.witnessing_serving import OwnShelf
from p2pfl.core.witnessing_telling import HeadsTold
from p2pfl.core.witnessing_terms import (
    BadNote,
    ForeignLog,
    Learned,
    Peer,
    Tell,
    WitnessInput,
    WitnessOutput,
)
from p2pfl.core.witnessing_words import Words


class Witnessing:
    """One site's part in witnessing. See the module's text."""

    def __init__(
        self,
        *,
        me: SiteId,
        roster: Roster,
        book: terms.WitnessBook,
        own: terms.OwnLogView,
        witness: Signer,
        seal: terms.Seal,
        may_read: terms.MayRead,
        faulty: int | None = None,
    ) -> None:
        """faulty: how many witnesses may lie, if that was agreed: see `quorum`."""
        self.peers: dict[SiteId, Peer] = {}
        self.is_confirmed = False
        """Whether the own log may be shown."""
        self._may_cosign = False
        self._me = me
        self._roster = roster
        self._book = book
        self._own = own
        self._witness = Witness(terms.witness_name(me), witness, book)
        self._shelf = OwnShelf(own, seal, may_read)
        self._asking = Asking(book, own, self._shelf)
        self._mirrors = Mirrors(book, roster)
        self._told = HeadsTold(me, book)
        self._log_ids = dict[str, LogId]()
        self._faulty = faulty
        self._words = Words()
        self._hearing = HeadsHearing(book, self._foreign_head)
        self._keys = KeysKnown(book)
        self._proofs = ForkProofs(book, own.log_id, roster, self._keys)
        self._history = OwnHistory(book, own, self._proofs, self._keys)
        self._set_roster(roster)

    @property
    def is_stopped(self) -> bool:
        """Whether the own log may never be shown again: it is too short, or forked."""
        return self._history.is_behind or self._proofs.own_is_forked

    @property
    def words_needed(self) -> int:
        """How many sites' words on the own log exclude a conspiracy; liars do not count."""
        false = len(self._proofs.false_witnesses() - {self._me})
        return terms.words_needed(len(self._roster.members), self._faulty, false)

    def begin(self, now_s: float, *, must_ask: bool) -> list[WitnessOutput]:
        """What the book knows already. must_ask: another site has to confirm the own log first."""
        self.is_confirmed = self._may_cosign = not must_ask or len(self._roster.members) < 2
        outputs: list[WitnessOutput] = []
        outputs += self._own_keys()
        outputs += self._keys.refresh(self._log_ids.values())
        outputs += self._proofs.arisen()
        held = self._book.head_of(self._own.log_id)
        if held is not None:
            outputs += self._history.heard(held.note, now_s)
        if self.is_confirmed and not self.is_stopped:
            outputs.append(Learned(ev.OwnLogConfirmed()))
        return outputs

    def go_on_offline(self) -> list[WitnessOutput]:
        """The operator said to go on though nobody could be asked."""
        if self.is_confirmed or self.is_stopped:
            return []
        self.is_confirmed = True
        return [Learned(ev.OfflineStart())]

    def handle(self, now_s: float, given: WitnessInput) -> list[WitnessOutput]:
        """What to tell whom, and what the core has to know."""
        match given:
            case terms.Met(site=site):
                self.peers[site] = Peer()
                return [*self._tell_heads(now_s, site), *self._push(now_s)]
            case terms.Lost(site=site):
                self.peers.pop(site, None)
                return []
            case terms.Said(sender=sender, message=message):
                return [*self._said(now_s, sender, message), *self._proofs.arisen()]
            case terms.HeadSeen(note=note):
                return [*self._heard(note, now_s), *self._proofs.arisen()]
            case terms.OwnGrew():
                return [*self._own_keys(), *self._push(now_s)]
            case terms.Tick():
                return self._tick(now_s)
            case terms.Members(roster=roster):
                self._set_roster(roster)
                return []

    def _set_roster(self, roster: Roster) -> None:
        self._roster = self._proofs.roster = self._mirrors.roster = roster
        keys = {LogId(c.log_id): terms.log_key(roster.consortium, c) for c in roster.members}
        self._log_ids = {key.name: log_id for log_id, key in keys.items()}
        self._book.set_logs(keys)
        self._hearing.set_roster(roster)
        self._keys.set_members(roster, terms.liars_max(len(roster.members), self._faulty))
        for site in [site for site in self.peers if site not in roster]:
            del self.peers[site]

    # -- telling ---------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> list[WitnessOutput]:
        outputs = [*self._confirm(now_s), *self._push(now_s)]
        for site, peer in self.peers.items():
            again_s = terms.TERMS.again_s if not self.is_confirmed else terms.TERMS.swap_s
            if not 0.0 <= now_s - peer.told_s < again_s:
                outputs += self._tell_heads(now_s, site)
            outputs += self._mirrors.fetch(now_s, site, peer)
        return outputs

    def _tell_heads(self, now_s: float, site: SiteId) -> list[WitnessOutput]:
        """The newest head held of each log, after the keys that replaced others.

        That of the receiver's own log comes first."""
        self.peers[site].told_s = now_s
        notes = self._told.notes(LogId(self._roster.member(site).log_id), self._own.log_id)
        is_shown = self.is_confirmed and not self.is_stopped
        keys = self._keys.tell(site, None if is_shown else self._own.log_id)
        return [*keys, Tell(site, HeadsHeld(notes))]

    def _own_keys(self) -> list[WitnessOutput]:
        """Whether the own log's key was replaced: everybody is told before the next head."""
        lineage = tuple(self._own.lineage())
        learned = self._keys.follow(self._own.log_id, lineage)
        if not learned or not self.is_confirmed or self.is_stopped:
            return [*learned]
        shown = KeysShown(self._own.log_id, lineage)
        return [*learned, *(Tell(site, shown) for site in self.peers)]

    def _push(self, now_s: float) -> list[WitnessOutput]:
        """Ask whoever has not cosigned the newest own head, and everybody from time to time."""
        if not self.is_confirmed or self.is_stopped:
            return []
        return [*self._asking.push(now_s, self.peers, len(self._roster.members))]

    # -- what members say ------------------------------------------------------------------------

    def _said(
        self, now_s: float, sender: SiteId, message: WitnessMessage | ForkTold
    ) -> list[WitnessOutput]:
        if sender not in self._roster or sender == self._me:
            return []
        peer = self.peers.get(sender)
        try:
            if isinstance(message, ForkTold):
                return self._proofs.told(sender, message)
            if peer is None:
                return []
            match message:
                case CosignRequested():
                    return self._cosign(now_s, sender, message)
                case CosignAnswered():
                    key = self._keys.epochs.key_of(sender)
                    told = self._asking.answered(now_s, sender, peer, message, key)
                    return self._push(now_s) if told is None else [*told]
                case HeadsHeld():
                    return self._heads_held(now_s, sender, peer, message)
                case KeysShown(log_id=log_id, entries=entries):
                    is_member = log_id in self._log_ids.values()
                    return [*self._keys.take(LogId(log_id), entries)] if is_member else []
                case LeavesSent(log_id=log_id, start=start, hashes=hashes):
                    peer.fetched = 0
                    return self._mirror(sender, LogId(log_id), start, hashes)
                case LeavesWanted() | EntriesWanted():
                    return self._serve(now_s, sender, peer, message)
                case EntriesSent():
                    peer.fetched = 0
                    kept = self._keep(now_s, sender, peer, message)
                    return [*kept, *self._keys.refresh([LogId(self._roster.member(sender).log_id)])]
                case _:
                    assert_never(message)
        except PeerError as error:
            return [Learned(ev.PeerRefused(sender, error.rule))]

    def _cosign(
        self, now_s: float, sender: SiteId, message: CosignRequested
    ) -> list[WitnessOutput]:
        """Compare, persist, then cosign; what contradicts what is held becomes a proof.

        After a start, not before others have told what they hold: who lost its book, or has an old
        copy of it, would cosign a second history without knowing. It is asked again soon."""
        self._may_cosign |= self._words.is_enough(now_s, self.words_needed)
        if not self._may_cosign:
            return []
        card = self._roster.member(sender)
        try:
            note = parse_request(message.request).note
            head = checkpoint_of(note)
        except LedgerError as error:
            raise BadNote(str(error)) from error
        log_id = LogId(card.log_id)
        if self._log_ids.get(head.origin) != log_id:
            raise ForeignLog("a request is about the own log", actual=head.origin[:80])
        answer = self._witness.answer(message.request, int(now_s))
        told = (head.origin, head.size, head.root, answer.status, answer.body[:1024])
        outputs: list[WitnessOutput] = [Tell(sender, CosignAnswered(*told))]
        if answer.fork is not None:
            outputs += self._proofs.found(answer.fork)
        elif answer.status in (Status.OTHER_SIZE, Status.BAD_PROOF):
            outputs += self._note_seen(log_id, note, now_s)
        if answer.status is Status.COSIGNED:
            outputs += self._mirror(sender, log_id, message.leaves_from, message.leaves)
            self.peers[sender].fetched_s = now_s  # its entries may wait for the next ones
        return outputs

    def _heads_held(
        self, now_s: float, sender: SiteId, peer: Peer, message: HeadsHeld
    ) -> list[WitnessOutput]:
        outputs: list[WitnessOutput] = []
        own, *others = message.notes
        if own:
            outputs += self._history.heard(own, now_s)
        if sender not in self._proofs.false_witnesses() and self._words.hear(now_s, sender):
            if not self.is_confirmed and not self.is_stopped:
                told = ev.OwnLogWords(self._words.count, self.words_needed)
                outputs += [Learned(told)] if told.words < told.needed else []
            outputs += self._confirm(now_s)
        outputs += self._hearing.heard(now_s, sender, others)
        is_due = not 0.0 <= now_s - peer.told_s < terms.TERMS.again_s
        if is_due and peer.replies.take(now_s):
            outputs += self._tell_heads(now_s, sender)
        return outputs

    def _confirm(self, now_s: float) -> list[WitnessOutput]:
        """Show the own log once enough sites know nothing that it does not hold."""
        needed = self.words_needed if not self.is_confirmed else 0
        if self.is_confirmed or self.is_stopped or not self._words.is_enough(now_s, needed):
            return []
        self.is_confirmed = True
        confirmed = Learned(ev.OwnLogConfirmed(self._words.count, needed))
        keys = [told for site in self.peers for told in self._keys.tell(site, None)]
        return [confirmed, *keys, *self._push(now_s)]

    def _heard(self, note: bytes, now_s: float) -> list[WitnessOutput]:
        """A head that came with something else: the core has checked who signed it."""
        try:
            return self._foreign_head(note, now_s)
        except PeerError:
            return []  # of a member that has just left, or changed its key

    def _foreign_head(self, note: bytes, now_s: float) -> list[WitnessOutput]:
        try:
            log_id = self._log_ids.get(checkpoint_of(note).origin)
        except LedgerError as error:
            raise BadNote(str(error)) from error
        if log_id is None:
            return []  # of a site that this roster does not name any more, or not yet
        return self._note_seen(log_id, note, now_s)

    def _note_seen(self, log_id: LogId, note: bytes, now_s: float) -> list[WitnessOutput]:
        if log_id == self._own.log_id:
            return self._history.heard(note, now_s)
        try:
            proof = self._book.note_seen(log_id, note, int(now_s * 1e6))
        except StoreError:
            raise  # our disk's fault, not a member's
        except LedgerError as error:
            raise BadNote(str(error)) from error
        return [] if proof is None else self._proofs.found(proof)

    def _mirror(
        self, sender: SiteId, log_id: LogId, start: int, hashes: bytes
    ) -> list[WitnessOutput]:
        proof = self._mirrors.keep_leaves(sender, log_id, start, hashes)
        return [] if proof is None else self._proofs.found(proof)

    def _keep(
        self, now_s: float, sender: SiteId, peer: Peer, message: EntriesSent
    ) -> list[WitnessOutput]:
        told, proof = self._mirrors.keep_entries(now_s, sender, peer, message)
        return [*told] if proof is None else self._proofs.found(proof)

    def _serve(
        self, now_s: float, sender: SiteId, peer: Peer, message: LeavesWanted | EntriesWanted
    ) -> list[WitnessOutput]:
        if message.log_id != self._own.log_id:
            return [*self._mirrors.serve(now_s, sender, peer, message)]
        may_show = self.is_confirmed and not self.is_stopped
        return [*self._shelf.serve(now_s, sender, peer, message)] if may_show else []
