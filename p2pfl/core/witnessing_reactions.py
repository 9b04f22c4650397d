"""What a node does about proofs of forks, and about a word on its own log that it cannot deny.

Responsible for what is recorded and said, and for what the gate lets through. The studies
themselves are the node's to stop."""

from collections.abc import Collection
from typing import Final, assert_never

from gossip.identifiers import SiteId
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.conduct import name_of
from p2pfl.core.history import History
from p2pfl.core.witnessing_gate import UNTOLD, Gate, untold

ACCUSED: Final = (
    "{} signed two histories of its log: nothing of it is taken any more. The proof is "
    "{} in the home: `p2pfl ledger check-fork` shows it; ask that site"
)
LIED: Final = (
    "{} cosigned two histories of {}'s log: its cosignatures count no more, nor does its word on "
    "the own log. The proof is {} in the home: `p2pfl ledger check-fork` shows it; ask that site"
)
FEW: Final = (
    "{} of {} sites confirmed the own log: no more could be reached. If all of those conspire, an "
    "old copy of this home would not have been noticed"
)
FORKED: Final = (
    "This site's own log has two signed histories: it is frozen, nothing is recorded or released "
    "any more. The proof is {}: `p2pfl ledger check-fork` shows it. Find out who has the log key "
    "or a copy of the home, then go on with `p2pfl ledger new-incarnation`"
)
BEHIND: Final = (
    "This site's log has {} entries, but another site holds a head of {} entries that this site "
    "signed: an old copy of the home was restored, or its end is lost. Nothing is recorded or "
    "released any more. Stop the node, then `p2pfl ledger recover`"
)

WitnessEvent = (
    ev.OwnLogConfirmed | ev.OwnLogWords | ev.OfflineStart | ev.OwnLogBehind | ev.ForkFound
)


class LogWatch:
    """The gate of the own log, and which members' logs are proved to have two histories."""

    def __init__(self, me: SiteId, history: History) -> None:
        self.gate = Gate()
        self._me = me
        self._history = history

    @property
    def is_closed(self) -> bool:
        """Whether nothing may be recorded or released any more."""
        return self.gate.state is ev.OwnLog.READ_ONLY

    def accused(self, roster: Roster) -> frozenset[SiteId]:
        """Members whose logs are proved, on record here, to have two histories."""
        forks = self._history.forks
        if not forks:
            return frozenset()
        return frozenset(card.site for card in roster.members if card.log_id in forks)

    def begin(self, roster: Roster, state: ev.OwnLog) -> list[fx.Effect]:
        """The node is up. A fork of the own log that is on record closes it again at once."""
        self.gate.state = state
        if self._is_own(roster, self._history.forks):
            return self._close(FORKED.format("in the folder forks of the home"), "own_log_forked")
        return [fx.Show(None, UNTOLD)] if state is ev.OwnLog.UNCONFIRMED else []

    def react(self, roster: Roster, event: WitnessEvent, connected: int) -> list[fx.Effect]:
        """What to record and to say. connected: how many members can be reached."""
        match event:
            case ev.OwnLogConfirmed(words=words, needed=needed):
                is_known = self.gate.state is not ev.OwnLog.UNCONFIRMED or words >= needed
                few = fx.Happened("own_log_confirmed_by_few", FEW.format(words, needed), ())
                return [*self.gate.confirm(), *([] if is_known else [fx.Show(None, few)])]
            case ev.OwnLogWords(words=words, needed=needed):
                is_waiting = self.gate.state is ev.OwnLog.UNCONFIRMED
                return [fx.Show(None, untold(words, needed))] if is_waiting else []
            case ev.OfflineStart():
                if self.gate.state is not ev.OwnLog.UNCONFIRMED:
                    return []
                started = kinds.NodeOfflineStart(connected).draft(drafts.NODE_ACTOR)
                return [*self.gate.confirm(), fx.Append(None, (started,))]
            case ev.OwnLogBehind(size=size):
                return self._close(BEHIND.format(self._history.size, size), "own_log_behind")
            case ev.ForkFound(form="K4"):
                return self._witness_lied(roster, event)
            case ev.ForkFound():
                return self._forked(roster, event)
            case _:
                assert_never(event)

    def _is_own(self, roster: Roster, log_ids: Collection[bytes]) -> bool:
        return any(card.site == self._me and card.log_id in log_ids for card in roster.members)

    def _forked(self, roster: Roster, event: ev.ForkFound) -> list[fx.Effect]:
        """On record once; of the own log it is the last thing on record."""
        if self._is_own(roster, (event.log_id,)):
            closed = self._close(FORKED.format(event.file), "own_log_forked")
            is_on_record = event.log_id in self._history.forks
            # A log that lost its end must not say anything under a number it has used already.
            freeze = [fx.Freeze(None, event.form, event.proof)] if not is_on_record else []
            return [*freeze, *closed] if closed else []
        name = _owner_of(roster, event.log_id)
        notice = fx.Happened("fork_found", ACCUSED.format(name, event.file), _fields(event))
        if event.log_id in self._history.forks:
            return [fx.Show(None, notice)]
        # From now on, not only once it is durable.
        self._history.forks[event.log_id] = event.form
        return [fx.Show(None, notice), _on_record(event)]

    def _witness_lied(self, roster: Roster, event: ev.ForkFound) -> list[fx.Effect]:
        """A K4 says nothing about the log: whoever cosigns can invent what it cosigns."""
        site = SiteId(event.witness)
        name = name_of(roster, site) if event.witness else "A former member"
        sentence = LIED.format(name, _owner_of(roster, event.log_id), event.file)
        shown = fx.Show(None, fx.Happened("false_witness", sentence, _fields(event)))
        if event.witness in self._history.false_witnesses:
            return [shown]
        self._history.false_witnesses.add(event.witness)
        return [shown, _on_record(event)]

    def _close(self, sentence: str, name: str) -> list[fx.Effect]:
        if self.is_closed:
            return []
        self.gate.close(sentence)
        return [fx.Show(None, fx.Happened(name, sentence, ()))]


def _owner_of(roster: Roster, log_id: bytes) -> str:
    owners = [card.name for card in roster.members if card.log_id == log_id]
    return " ".join(owners) or "a former member"


def _fields(event: ev.ForkFound) -> tuple[tuple[str, str], ...]:
    fields = [("file", event.file), ("form", event.form), ("log", event.log_id.hex())]
    witness = [("witness", event.witness.hex())] if event.witness else []
    return (*fields, ("proof", event.proof.hex()), *witness)


def _on_record(event: ev.ForkFound) -> fx.Effect:
    found = kinds.ForkFound(event.log_id, event.form, event.proof, event.witness)
    return fx.Append(None, (found.draft(drafts.NODE_ACTOR),))
