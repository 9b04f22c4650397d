"""What a node does about proofs of forks, and about a word on its own log that it cannot deny.

Responsible for what is recorded and said, and for what the gate lets through. The studies
themselves are the node's to stop."""

from typing import Final, assert_never

from gossip.identifiers import SiteId
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import History
from p2pfl.core.witnessing_gate import Gate

ACCUSED: Final = (
    "{} signed two histories of its log: nothing of it is taken any more. The proof is kept: "
    "`p2pfl ledger check-fork {}`; ask that site"
)
FORKED: Final = (
    "This site's own log has two signed histories: it is frozen, nothing is recorded or released "
    "any more. Look at the proof with `p2pfl ledger check-fork {}`, then go on with `p2pfl ledger "
    "new-incarnation`"
)
BEHIND: Final = (
    "This site's log has {} entries, but another site holds a head of {} entries that this site "
    "signed: an old copy of the home was restored, or its end is lost. Nothing is recorded or "
    "released any more. Stop the node, then `p2pfl ledger recover`"
)

WitnessEvent = ev.OwnLogConfirmed | ev.OfflineStart | ev.OwnLogBehind | ev.ForkFound


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

    def react(self, roster: Roster, event: WitnessEvent, connected: int) -> list[fx.Effect]:
        """What to record and to say. connected: how many members can be reached."""
        match event:
            case ev.OwnLogConfirmed():
                return self.gate.confirm()
            case ev.OfflineStart():
                if self.gate.state is not ev.OwnLog.UNCONFIRMED:
                    return []
                started = kinds.NodeOfflineStart(connected).draft(drafts.NODE_ACTOR)
                return [*self.gate.confirm(), fx.Append(None, (started,))]
            case ev.OwnLogBehind(size=size):
                return self._close(BEHIND.format(self._history.size, size), "own_log_behind")
            case ev.ForkFound():
                return self._forked(roster, event)
            case _:
                assert_never(event)

    def _forked(self, roster: Roster, event: ev.ForkFound) -> list[fx.Effect]:
        """On record once; what concerns the own log is no longer for this log to say."""
        owners = [card for card in roster.members if card.log_id == event.log_id]
        shown_proof = event.proof.hex()[:16]
        if any(card.site == self._me for card in owners):
            return self._close(FORKED.format(shown_proof), "own_log_forked")
        name = " ".join(card.name for card in owners) or "a former member"
        fields = (("form", event.form), ("log", event.log_id.hex()), ("proof", event.proof.hex()))
        notice = fx.Happened("fork_found", ACCUSED.format(name, shown_proof), fields)
        if event.log_id in self._history.forks:
            return [fx.Show(None, notice)]
        # From now on, not only once it is durable.
        self._history.forks[event.log_id] = event.form
        draft = kinds.ForkFound(event.log_id, event.form, event.proof).draft(drafts.NODE_ACTOR)
        return [fx.Show(None, notice), fx.Append(None, (draft,))]

    def _close(self, sentence: str, name: str) -> list[fx.Effect]:
        if self.is_closed:
            return []
        self.gate.close(sentence)
        return [fx.Show(None, fx.Happened(name, sentence, ()))]
