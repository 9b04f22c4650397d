"""A member of the roster whose node is its own: it says whatever a test wants, properly signed."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from core_worlds import PRIVATE, Story, begin

from gossip.messages import Decision, Message, StudyDecision, UpdateAnnounced
from ledger.log import Checkpoint, Signer, note_sign, origin_of
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.phases import Phase
from p2pfl.runtime.blobs import bytes_of_vector
from simulations.scenario import ScenarioTerms
from simulations.site import CONSORTIUM, SimulatedSite


def digest(*what: object) -> bytes:
    return hashlib.sha256(repr(what).encode()).digest()


FIVE = ScenarioTerms(
    sites=5, rounds=4, consensus_rounds=1, sites_min=3, deadline_s=2.0, privacy=PRIVATE
)


@dataclass(slots=True)
class Attacker:
    """Speaks for one site of a story. Its node is down."""

    story: Story
    site: SimulatedSite

    def says(self, victim: SimulatedSite, message: Message) -> list[fx.Effect]:
        """The victim's core handles a message of ours; nothing of what follows is performed."""
        now_s = self.story.world.now_s
        return victim.core.handle(now_s, ev.Delivered(self.site.id, message))

    def tells(self, victim: SimulatedSite, message: Message) -> None:
        """The same in the world: what follows is performed."""
        self.story.world.submit(victim, ev.Delivered(self.site.id, message), 0.0)
        self.story.wait(0.05)

    def decision(
        self, decision: Decision = Decision.APPROVED, seq: int = 0, bucket: int = 50
    ) -> StudyDecision:
        leaf = digest("decision", seq)
        return StudyDecision(self.story.study, decision, bucket, seq, leaf, 0)

    def head(self, size: int = 10**9, root: bytes = digest("root")) -> bytes:
        """A head of our own log, as large as we like."""
        log_id = self.site.ledger.identity.log_id
        origin = origin_of(CONSORTIUM, log_id)
        return note_sign(Checkpoint(origin, size, root).text, origin, Signer(self.site.keys.log))

    def update(self, round_: int, value: float = 1.0, **changed: object) -> UpdateAnnounced:
        """An update of a round, small enough to travel inside its message."""
        d = self.story.manifest.study.parameters
        data = bytes_of_vector(np.full(d, value, dtype=np.float32))
        message = UpdateAnnounced(
            study=self.story.study,
            round=round_,
            hash=hashlib.sha256(data).digest(),
            size=blob_size_bytes(d),
            entry_seq=round_,
            entry_leaf=digest("entry", round_, value),
            head=self.head(),
            inline=data,
            train_seq=round_,
        )
        return replace(message, **changed)  # type: ignore[arg-type]


def drafts(effects: list[fx.Effect], kind: type[kinds.Record]) -> list[dict[str, object]]:
    """Bodies of the entries of a kind that these effects would append."""
    appends = [effect for effect in effects if isinstance(effect, fx.Append)]
    return [dict(d.body) for a in appends for d in a.drafts if d.kind == kind.KIND]


def attacked(terms: ScenarioTerms = FIVE, seed: int = 1) -> tuple[Story, SimulatedSite, Attacker]:
    """All but the last site run the study; the last one approves, and is an attacker."""
    story = begin(seed, terms)
    *honest, last = story.sites
    story.approve(*honest)
    story.boot(*honest)
    story.wait(0.001)
    attacker = Attacker(story, last)
    for site in honest:
        attacker.says(site, attacker.decision())
    return story, honest[0], attacker


def gathering(terms: ScenarioTerms = FIVE) -> tuple[Story, SimulatedSite, Attacker]:
    """The same, at the moment when the victim has published round 0."""
    story, victim, attacker = attacked(terms)
    run = victim.core.runs[story.study]
    assert story.runs_until(lambda: run.phase is Phase.GATHERING)
    return story, victim, attacker


def misbehaviour(effects: list[fx.Effect]) -> list[object]:
    return [body["reason"] for body in drafts(effects, kinds.PeerMisbehaved)]


def of(kind: type[fx.Effect], effects: list[fx.Effect]) -> list[fx.Effect]:
    return [effect for effect in effects if isinstance(effect, kind)]
