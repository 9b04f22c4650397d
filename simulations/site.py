"""One simulated hospital: the node's core, its disk, and training that really learns."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gossip.card import Card, sign_card
from gossip.dissemination import Dissemination
from gossip.identifiers import SiteId
from gossip.keys import SiteKeys
from gossip.messages import Message, StudyProposal, UpdateAnnounced
from gossip.roster import Roster
from ledger.log import Draft, Entry, Signer
from ledger.provenance import kinds
from ledger.provenance.peers import TOLERANCE_US
from p2pfl.averaging import average
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import DECIDING, History
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash
from p2pfl.core.node import NodeCore
from p2pfl.runtime.blobs import bytes_of_vector, vector_of
from p2pfl.runtime.errors import BlobError
from simulations.memory_ledger import MemoryLedger

Vector = NDArray[np.float32]
Trainer = Callable[[Vector, int], Vector]
"""(model, round) → the model after local training."""

CONSORTIUM = "simulated"
OPEN_S = 0.1
TRAIN_S = 0.05
AVERAGE_S = 0.002
COMMIT_S = 0.004
FETCH_S = 0.02
UNPROTECTED = ev.Spending("none", "0", "0", 0, "0")
ENVIRONMENT = hashlib.sha256(b"simulated").digest()


@dataclass(frozen=True, slots=True)
class Fetch:
    """A blob that some of these sites may hold, what to say then, and what if nobody has it.

    Without `failed` it is asked for until somebody has it."""

    model: ModelHash
    parameters: int
    sites: tuple[SiteId, ...]
    done: ev.Event
    failed: ev.ObtainFailed | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What performing an effect leads to in the world around the site."""

    event: ev.Event | None = None
    delay_s: float = 0.0
    late: Callable[[], ev.Event] | None = None
    """Makes the event when it is due: what takes long is worked off together."""
    offer: fx.Offer | None = None
    withdraw: str = ""
    fetch: Fetch | None = None


@dataclass(frozen=True, slots=True)
class Payloads:
    """How models travel: with their announcement, or fetched by digest."""

    inline_bytes_max: int = 16 * 1024


@dataclass(slots=True)
class Disk:
    """What survives a crash, besides the ledger."""

    blobs: dict[bytes, bytes] = field(default_factory=dict)
    manifests: dict[bytes, Manifest] = field(default_factory=dict)


class SimulatedSite:
    """A site and its node. `perform` is the driver's counterpart without I/O."""

    def __init__(
        self,
        name: str,
        keys: SiteKeys,
        trainer: Trainer,
        nonce: bytes,
        *,
        spending: ev.Spending = UNPROTECTED,
        payloads: Payloads | None = None,
    ) -> None:
        self.name = name
        self.keys = keys
        self.id: SiteId = keys.site
        self.disk = Disk()
        self.incarnation = 0
        self.is_up = False
        self.still_until_s = 0.0
        """Until when its machine stands still, by the world's clock."""
        self.clock_off_s = 0.0
        """How far its wall clock is ahead of the world's."""
        self._known_off_s = 0.0
        self.next_effect: fx.Effect | None = None
        """What it is about to perform: tests cut the power there."""
        self.notices: list[fx.Notice] = []
        self.score_of: Callable[[int], float] = lambda _round: 0.0
        """Round → what the averaged model scores on the own hold-out."""
        self.planned_steps = 0
        """Of a round's local work; `spending` says how many were made."""
        self.train_s = TRAIN_S
        """How long a round of local training takes."""
        self.trained_with: dict[tuple[bytes, int], tuple[tuple[str, str], ...]] = {}
        """(study, round) → the steered arguments of its training, the last time it was tried."""
        self.ledger = MemoryLedger(
            deployment=CONSORTIUM,
            identity=Signer(keys.identity),
            log=Signer(keys.log),
            witness_pk=Signer(keys.witness).public_key,
            nonce=nonce,
        )
        self.released: dict[bytes, bytes] = {}
        """Study → model that lies where its researcher finds it; survives a crash."""
        self.peer_heads: dict[bytes, dict[int, bytes]] = {}
        """Log → size → root of every head that was taken for true; survives a crash."""
        self.spending = spending
        self._payloads = payloads or Payloads()
        self._trainer = trainer
        self.core: NodeCore
        self.dissemination: Dissemination

    @property
    def blobs(self) -> dict[bytes, bytes]:
        """Stored models by digest."""
        return self.disk.blobs

    def card(self, number: int, *, dials_only: bool = False) -> Card:
        """The site's entry in the roster."""
        log_id = self.ledger.identity.log_id
        addresses = () if dials_only else (f"10.0.{number // 250}.{number % 250 + 1}:7100",)
        return sign_card(self.keys, name=self.name, log_id=log_id, addresses=addresses)

    def record(self, *drafts: Draft, now_s: float) -> tuple[Entry, ...]:
        """What a person's command appends. A running node has to be told: `World.command`."""
        return self._note_clock(now_s) + self.ledger.append(drafts, (), int(now_s * 1e6))

    def store(self, vector: Vector) -> bytes:
        """Put a model on the disk. Returns its digest."""
        data = bytes_of_vector(vector)
        digest = hashlib.sha256(data).digest()
        self.disk.blobs[digest] = data
        return digest

    def model(self, digest: bytes) -> Vector:
        """A stored model."""
        return vector_of(self.disk.blobs[digest], _parameters(self.disk.blobs[digest]))

    def boot(self, roster: Roster, random: Callable[[], float]) -> None:
        """A fresh process on the old disk."""
        self.incarnation += 1
        self.is_up = True
        self._known_off_s = self.clock_off_s
        self.core = NodeCore(self.id, roster, History(self.ledger.entries))
        self.dissemination = Dissemination(
            site=self.id, transport_seed=self.keys.transport, roster=roster, random=random
        )

    def begin(self) -> ev.Event:
        """The first event of a process."""
        models = frozenset(ModelHash(digest) for digest in self.disk.blobs)
        return ev.Begin(tuple(self.disk.manifests.values()), models, self.ledger.note)

    def crash(self) -> None:
        """The process is gone."""
        self.is_up = False
        self.still_until_s = 0.0
        self.incarnation += 1

    # -- effects ---------------------------------------------------------------------------------

    def perform(self, effect: fx.Effect, now_s: float) -> list[Outgoing]:
        """Do what the core asks for; long effects answer with an event after a while."""
        match effect:
            case fx.Append(under=study) if study is not None and not self._is_in_force(effect):
                return []
            case fx.Append(drafts=drafts, links=links):
                noted = self._note_clock(now_s)
                entries = noted + self.ledger.append(drafts, links, int(now_s * 1e6))
                return [Outgoing(ev.Appended(entries, self.ledger.note), COMMIT_S)]
            case fx.Offer():
                return [Outgoing(offer=replace(effect, message=self._with_payload(effect)))]
            case fx.Withdraw(key=key):
                return [Outgoing(withdraw=key)]
            case fx.KeepProposal(study=study, manifest=manifest, initial=initial):
                self.disk.manifests[study] = manifest
                if hashlib.sha256(initial).digest() == manifest.study.initial_model:
                    self.disk.blobs[manifest.study.initial_model] = initial
                return []
            case fx.HeadHeard(log_id=log_id, size=size, root=root):
                self.peer_heads.setdefault(log_id, {}).setdefault(size, root)
                return []
            case fx.SetTimer(key=key, at_s=at_s):
                return [Outgoing(ev.TimerFired(key), max(0.0, at_s - now_s))]
            case fx.Show(notice=notice):
                self.notices.append(notice)
                return []
            case _:
                return self.perform_job(effect)

    def _note_clock(self, now_s: float) -> tuple[Entry, ...]:
        """As the ledger's writer does it: put on record that the clock was set."""
        set_by_us = int((self.clock_off_s - self._known_off_s) * 1e6)
        if set_by_us <= TOLERANCE_US and self.ledger.entries:
            set_by_us = min(set_by_us, int(now_s * 1e6) - self.ledger.entries[-1].time_us)
        self._known_off_s = self.clock_off_s
        if abs(set_by_us) <= TOLERANCE_US:
            return ()
        anomaly = kinds.ClockAnomaly(set_by_us).draft("node")
        return self.ledger.append([anomaly], (), int(now_s * 1e6))

    def perform_job(self, effect: fx.Effect) -> list[Outgoing]:
        """Start something long."""
        match effect:
            case fx.OpenTraining(study=study, manifest=manifest):
                d = manifest.study.parameters
                return [Outgoing(ev.TrainingOpened(study, d, ENVIRONMENT, ENVIRONMENT), OPEN_S)]
            case fx.Train():
                return [Outgoing(self._train(effect), self.train_s)]
            case fx.Obtain():
                return [self._obtain(effect)]
            case fx.FetchModel(study=study, model=model, parameters=d, sites=sites):
                ready = ev.ModelReady(study, model)
                if model in self.disk.blobs:
                    return [Outgoing(ready, 0.0)]
                return [Outgoing(fetch=Fetch(model, d, sites, ready, None))]
            case fx.Average():
                return [Outgoing(self._average(effect), AVERAGE_S)]
            case fx.Score(study=study, round=round_):
                return [Outgoing(ev.Scored(study, round_, None, self.score_of(round_)), 0.0)]
            case fx.ReleaseModel(study=study, model=model):
                self.released[study] = model
                return [Outgoing(ev.ModelReleased(study, model), 0.0)]
            case _:
                return []  # CloseTraining: nothing outside the process

    def _with_payload(self, effect: fx.Offer) -> Message:
        message = effect.message
        if isinstance(message, UpdateAnnounced):
            if message.size > self._payloads.inline_bytes_max:
                return message
            return replace(message, inline=self.disk.blobs[message.hash])
        if isinstance(message, StudyProposal):
            study = self.core.proposals
            for proposal in study.values():
                if proposal.manifest.raw == message.manifest:
                    initial = self.disk.blobs.get(proposal.manifest.study.initial_model, b"")
                    return replace(message, initial=initial)
        return message

    def _train(self, effect: fx.Train) -> ev.Event:
        self.trained_with[effect.study, effect.round] = effect.arguments
        digest = self.store(self._trainer(self.model(effect.base), effect.round))
        size = len(self.disk.blobs[digest])
        return ev.Trained(
            effect.study,
            effect.round,
            ModelHash(digest),
            size,
            self.spending,
            0.0,
            self.train_s,
            self.planned_steps,
        )

    def _is_in_force(self, effect: fx.Append) -> bool:
        """The ledger's writer looks at what is on record, not at what the core knows."""
        deciding = (entry for entry in reversed(self.ledger.entries) if entry.kind in DECIDING)
        newest = next((e for e in deciding if e.body["study"] == effect.under), None)
        return newest is not None and newest.seq == effect.approved_seq

    def _obtain(self, effect: fx.Obtain) -> Outgoing:
        place = (effect.study, effect.round, effect.sender, effect.model)
        done = ev.Obtained(*place)
        fetch = Fetch(
            effect.model,
            effect.parameters,
            (effect.sender,),
            done,
            ev.ObtainFailed(*place, "not-fetched", hostile=False),
        )
        if effect.inline:
            return Outgoing(self.take_in(fetch, effect.inline), FETCH_S)
        if effect.model in self.disk.blobs:
            return Outgoing(done, 0.0)
        return Outgoing(fetch=fetch)

    def take_in(self, fetch: Fetch, data: bytes) -> ev.Event:
        """Check bytes that came from another site, and store them."""
        try:
            vector_of(data, fetch.parameters)
        except BlobError as error:
            assert fetch.failed is not None, "initial models are what the manifest names"
            return replace(fetch.failed, reason=type(error).__name__, hostile=True)
        self.disk.blobs[fetch.model] = data
        return fetch.done

    def _average(self, effect: fx.Average) -> ev.Event:
        own = self.model(effect.own)
        others = [self.model(given.model) for given in effect.inputs]
        weights = np.array([given.weight_u / 1e6 for given in effect.inputs], dtype=np.float32)
        mixed = average(effect.rule, own, others, weights)
        verdicts = tuple(str(e.verdict) for e in mixed.evidence)
        gaps = [float(np.linalg.norm(other - own)) for other in others]
        digest = ModelHash(self.store(mixed.value))
        return ev.Averaged(
            effect.study, effect.round, digest, verdicts, max(gaps, default=0.0), ENVIRONMENT
        )


def _parameters(data: bytes) -> int:
    header = int.from_bytes(data[:8], "little")
    return (len(data) - 8 - header) // 4
