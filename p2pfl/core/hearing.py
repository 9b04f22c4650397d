"""What one study hears of its neighbours' updates, and the verdicts that go on record for them."""

import hashlib

from gossip.card import Card
from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.gathering import Gathering
from p2pfl.core.history import Standing, StudyHistory
from p2pfl.core.inbox import Heard, Holding
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.refusals import Equivocation, Replayed, StaleRound
from p2pfl.core.training import RETRY_S
from p2pfl.core.watch import Telling


class Hearing:
    """Announcements and payloads of one study. Verdicts are written once, however often asked."""

    def __init__(
        self, study: StudyId, gathering: Gathering, past: StudyHistory, tell: Telling
    ) -> None:
        self._study = study
        self._gathering = gathering
        self._past = past
        self._tell = tell
        gathering.patience.recall(past.paces)
        self._judged: set[tuple[Round, bytes]] = set()
        """Verdicts on their way to the ledger: a flood must not write them twice."""

    def check_receipt(self, current: Round, sender: SiteId, message: UpdateAnnounced) -> None:
        """What is on record about an update holds, also after a restart.

        One that a catch-up accepted early is needed again when its round comes, as is one that may
        stand in for a newer one. Raises Equivocation, Replayed."""
        receipt = self._past.received.get((Round(message.round), sender))
        if receipt is None:
            return
        if receipt.hash != message.hash:
            raise Equivocation(f"round {message.round}: another update is on record")
        if receipt.verdict != "accepted" or message.round < self._gathering.oldest(current):
            raise Replayed(f"round {message.round}: its verdict is on record")

    def announced(self, now_s: float, current: Round, heard: Heard) -> list[fx.Effect]:
        """A neighbour tells of its update. Raises an UpdateRefused."""
        try:
            return self._gathering.announce(current, heard)
        except StaleRound:
            self._gathering.patience.late(heard.sender, heard.round, now_s)
            return self._judge(heard, "late", "after-the-round")

    def enter(self, current: Round) -> list[fx.Effect]:
        """A round began: what came for earlier ones and was not averaged goes on record."""
        asked = self._gathering.enter(current)
        return [*self._judge_unused(), *asked]

    def obtained(self, now_s: float, round_: Round, sender: SiteId) -> list[fx.Effect]:
        """A neighbour's update is stored and sound, perhaps too late for its round."""
        if self._gathering.obtained(round_, sender):
            self._gathering.patience.arrived(sender, round_, now_s)
        return self._judge_unused()

    def _judge_unused(self) -> list[fx.Effect]:
        """Else a model would stay on disk that no entry of the own ledger names."""
        unused, self._gathering.unused = self._gathering.unused, []
        if self._past.standing not in (Standing.APPROVED, Standing.CLOSED):
            return []
        return [e for heard in unused for e in self._judge(heard, "late", "after-the-round")]

    def obtain_failed(self, now_s: float, event: ev.ObtainFailed) -> list[fx.Effect]:
        """A broken promise is recorded as a rejection; a broken line is tried again."""
        if not event.hostile:
            self._gathering.failed(event.round, event.sender)
            return [fx.SetTimer(self._study, ev.Retry(self._study), now_s + RETRY_S)]
        heard = self._gathering.rejected(event.round, event.sender)
        if heard is None:
            return []
        shown = self._tell.happened(
            "update_rejected", event.reason, site=event.sender.hex(), round=str(event.round)
        )
        return [shown, *self._judge(heard, "rejected", event.reason)]

    def _judge(self, heard: Heard, verdict: str, reason: str) -> list[fx.Effect]:
        place = (heard.round, heard.sender)
        if place in self._judged or place in self._past.received:
            return []
        self._judged = {p for p in self._judged if p not in self._past.received} | {place}
        draft = drafts.received_draft(self._study, heard, verdict, reason)
        return [fx.Append(self._study, (draft,))]


def heard_of(sender: Card, message: UpdateAnnounced) -> Heard:
    """An announcement as the inbox holds it."""
    return Heard(
        sender.site,
        sender.log_id,
        Round(message.round),
        ModelHash(message.hash),
        message.size,
        message.entry_seq,
        message.entry_leaf,
        hashlib.sha256(message.head).digest(),
        message.inline,
        Holding.ANNOUNCED,
    )
