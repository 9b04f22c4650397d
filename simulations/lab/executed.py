"""The same scenarios with everything executed: keys, signatures, envelopes, ledgers, heads.

At most as many sites as a roster may have. The world is the one in which the tests of the core cut
the power; only training, averaging and scoring come from the laboratory."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gossip.keys import SiteKeys
from gossip.roster import Roster, draft_roster, sign_roster
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.names import StudyId
from p2pfl.core.participants import study_graph
from p2pfl.runtime.blobs import vector_length
from simulations.lab.desk import Desk
from simulations.lab.engines import Engine
from simulations.lab.labour import AVERAGE_S, SCORE_S, Labour
from simulations.lab.records import Records
from simulations.lab.setting import Setting
from simulations.lab.staging import (
    approval_drafts,
    bucket_of,
    manifest_of,
    pairs_across,
    rule_in_use,
)
from simulations.lab.terms import Network
from simulations.lab.workshop import digest_of, file_of
from simulations.scenario import APPROVER_ROLE, START_S, derived
from simulations.site import CONSORTIUM, Outgoing, SimulatedSite
from simulations.world import NetworkTerms, World

Vector = NDArray[np.float32]


class ExecutedSite(SimulatedSite):
    """A site whose long work is done by the laboratory."""

    labour: Labour
    network: Network

    def __init__(self, number: int, seed: int) -> None:
        name = f"site-{number:04d}"
        keys = SiteKeys(*(derived(seed, name, role) for role in ("i", "t", "l", "w")))
        super().__init__(name, keys, lambda model, _round: model, derived(seed, name, "nonce"))
        self.number = number
        self._speed = np.random.Generator(np.random.PCG64([seed, number, 5]))
        self.started_s = 0.0

    def perform(self, effect: fx.Effect, now_s: float) -> list[Outgoing]:
        """Do what the core asks for."""
        if isinstance(effect, fx.Score):
            late = self.labour.score(self, effect, now_s - START_S)
            return [Outgoing(late=late, delay_s=SCORE_S)]
        return super().perform(effect, now_s)

    def perform_job(self, effect: fx.Effect) -> list[Outgoing]:
        """Start something long."""
        match effect:
            case fx.Train():
                terms = self.network
                delay_s = float(self._speed.uniform(terms.train_min_s, terms.train_max_s))
                extra_s = terms.train_max_s if self.labour.is_hostile(self) else 0.0
                late = self.labour.train(self, effect)
                return [Outgoing(late=late, delay_s=delay_s + extra_s)]
            case fx.Average():
                return [Outgoing(late=self.labour.average(self, effect), delay_s=AVERAGE_S)]
            case fx.OpenTraining():
                self.labour.opened(self)
                return super().perform_job(effect)
            case _:
                return super().perform_job(effect)

    def keep_own(self, digest: bytes, model: Vector) -> None:
        """Store an own model."""
        self.disk.blobs[digest] = file_of(model)

    def model(self, digest: bytes) -> Vector:
        """A stored model."""
        data = self.disk.blobs[digest]
        return np.frombuffer(data, dtype="<f4", offset=len(data) - 4 * vector_length(data))


class ExecutedStage:
    """A world of whole nodes, ready to boot."""

    def __init__(self, setting: Setting, engine: Engine, records: Records) -> None:
        scenario, initial, patients = setting.scenario, setting.initial, setting.patients
        self.sites = [ExecutedSite(number, scenario.seed) for number in range(scenario.sites)]
        roster: Roster = draft_roster(CONSORTIUM, [s.card(n) for n, s in enumerate(self.sites)])
        for site in self.sites:
            roster = sign_roster(roster, site.keys.identity)
        written = manifest_of(scenario, roster.sites, initial, setting.features)
        self.manifest = parse_manifest(written.raw)
        number_of: dict[bytes, int] = {site.id: site.number for site in self.sites}
        graph = study_graph(self.manifest)
        neighbours = {
            number_of[site.id]: [number_of[other] for other in graph[site.id]]
            for site in self.sites
        }
        rule = rule_in_use(scenario)
        desk = Desk(engine, rule.name, rule.parameters, setting.benches)
        labour = Labour(scenario, desk, neighbours, rule, len(initial), records)
        terms = scenario.network
        wires = NetworkTerms(terms.delay_min_s, terms.delay_max_s, terms.loss)
        self.world = World(
            seed=scenario.seed,
            sites=list[SimulatedSite](self.sites),
            roster=roster,
            network=wires,
            start_s=START_S,
        )
        self._scenario = scenario
        self._patients = patients
        late = {site for f in scenario.faults if f.kind == "join" for site in f.sites}
        for site in self.sites:
            site.labour, site.network = labour, terms
            site.disk.blobs[digest_of(initial)] = file_of(initial)
            site.disk.manifests[self.manifest.study_id] = self.manifest
            if site.number not in late:
                self._approve(site)

    def _approve(self, site: ExecutedSite) -> None:
        patients = bucket_of(self._patients[site.number])
        drafts = approval_drafts(
            self._scenario, self.manifest, site.name, self.sites[0].id, patients
        )
        site.record(*drafts, now_s=self.world.now_s - 1.0)

    # -- what a scenario does to its sites -------------------------------------------------------

    def boot(self, number: int) -> None:
        """Switch a site on, unless it is."""
        if not self.sites[number].is_up:
            self.world.boot(self.sites[number])

    def crash(self, number: int) -> None:
        """Cut a site's power."""
        if self.sites[number].is_up:
            self.world.crash(self.sites[number])

    def join(self, number: int) -> None:
        """A site's people approve now, and its node starts."""
        self._approve(self.sites[number])
        self.boot(number)

    def leave(self, number: int) -> None:
        """A site's people revoke the study."""
        revoked = kinds.StudyRevoked(self.manifest.study_id, "simulated")
        self.world.command(self.sites[number], revoked.draft(APPROVER_ROLE))

    def cut(self, numbers: Sequence[int], is_cut: bool) -> None:
        """Let nothing through between these sites and the others, or everything again."""
        pairs = pairs_across([site.id for site in self.sites], numbers)
        if is_cut:
            self.world.cut |= pairs
        else:
            self.world.cut -= pairs

    # -- what came of it -------------------------------------------------------------------------

    def complete(self) -> int:
        """How many sites have released their model and closed the study."""
        study = StudyId(self.manifest.study_id)
        return sum(site.is_up and site.core.history.study(study).is_complete for site in self.sites)

    def digests(self) -> dict[int, bytes]:
        """One, of all sites together."""
        return {0: bytes.fromhex(self.world.digest())}

    def counts(self) -> Counter[str]:
        """Messages sent and entries written, each of them signed."""
        entries = sum(len(site.ledger.entries) for site in self.sites)
        return Counter({"entries": entries, "messages": self.world.messages})

    def traffic(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Bytes sent and received by each site."""
        sent, received = self.world.bytes_sent, self.world.bytes_received
        return tuple(sent[s.id] for s in self.sites), tuple(received[s.id] for s in self.sites)
