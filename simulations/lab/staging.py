"""From a scenario to a world in which everybody has approved and only time has to pass."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from gossip.identifiers import Digest, SiteId
from gossip.messages import Decision, StudyDecision
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.averaging import resolve_parameters
from p2pfl.core import events as ev
from p2pfl.core.manifest import Manifest, study_id_of
from p2pfl.core.manifest_terms import NO_PRIVACY, AveragingTerms, PlanTerms, StudyTerms
from p2pfl.core.manifest_writing import render_manifest
from p2pfl.core.participants import study_graph
from simulations.adversaries_adaptive import RuleInUse
from simulations.lab.counted_site import CountedSite, counted_roster
from simulations.lab.counted_world import CountedWorld
from simulations.lab.desk import Desk
from simulations.lab.engines import Engine
from simulations.lab.exchange import Exchange
from simulations.lab.labour import Labour
from simulations.lab.records import Records
from simulations.lab.setting import Setting
from simulations.lab.terms import Scenario
from simulations.lab.workshop import Matrix, data_terms, digest_of
from simulations.scenario import APPROVER_ROLE, START_S, UNPROTECTED_TERMS, derived

DURATION_S = 100_000_000
PATIENTS_BUCKET = 50


def manifest_of(
    scenario: Scenario, sites: Sequence[SiteId], initial: Matrix, features: int
) -> Manifest:
    """The study, as a proposer would write it; too many sites for one are refused elsewhere."""
    terms = scenario.averaging
    study = StudyTerms(
        name=scenario.name,
        rounds=scenario.rounds,
        consensus_rounds=scenario.consensus_rounds,
        sites=tuple(sorted(sites)),
        sites_min=max(2, len(sites) - sum(len(f.sites) for f in scenario.faults)),
        neighbours_min=terms.neighbours_min,
        round_deadline_s=scenario.network.deadline_s,
        expires_s=int(START_S) + DURATION_S,
        seed=scenario.seed,
        initial_model=Digest(digest_of(initial)),
        parameters=len(initial),
    )
    averaging = AveragingTerms(
        terms.rule,
        terms.topology,
        terms.degree if terms.topology == "random-regular" else 0,
        (),
        "patients" if terms.weighting == "patients" else "uniform",
        1.0,
        terms.byzantine,
        {},
    )
    plan = PlanTerms(f"tabular-{scenario.model}", {}, {})
    data = data_terms(features)
    raw = render_manifest(
        study=study, plan=plan, data=data, privacy=NO_PRIVACY, averaging=averaging
    )
    return Manifest(study, plan, data, NO_PRIVACY, averaging, raw, study_id_of(raw))


def rule_in_use(scenario: Scenario) -> RuleInUse:
    """The averaging rule with its parameters."""
    terms = scenario.averaging
    resolved = resolve_parameters(terms.rule, {}, byzantine=terms.byzantine)
    return RuleInUse(terms.rule, tuple(sorted(resolved.items())))


def approval_drafts(
    scenario: Scenario, manifest: Manifest, name: str, proposer: bytes, patients: int
) -> tuple[Draft, ...]:
    """What a site's people recorded before the study starts: its data, the study, their yes."""
    seed = scenario.seed
    dataset = derived(seed, name, "dataset")
    registered = kinds.DatasetRegistered(
        ds=dataset,
        fp_commit=derived(seed, name, "fingerprint"),
        patients_bucket=patients,
        schema_hash=derived(seed, "schema"),
        legal_basis="simulated",
        dpia="none",
        cap_u=10_000_000,
        delta="1e-3",
    )
    proposed = kinds.StudyProposed(manifest.study_id, proposer)
    approved = kinds.StudyApproved(
        study=manifest.study_id,
        role=APPROVER_ROLE,
        meaning="train",
        approver_commit=derived(seed, name, "approver"),
        ds=dataset,
        expires_us=manifest.study.expires_us,
        dp=UNPROTECTED_TERMS,
        eps_table_u=(0,) * (manifest.study.rounds + 1),
    )
    return (
        registered.draft("data-manager"),
        proposed.draft("researcher"),
        approved.draft(APPROVER_ROLE),
    )


def bucket_of(patients: int) -> int:
    """Public, rounded number of patients."""
    return max(10, round(patients / 10) * 10)


class CountedStage:
    """A world of counted sites, ready to boot."""

    def __init__(
        self,
        setting: Setting,
        engine: Engine,
        records: Records,
        exchange: Exchange,
        here: range,
    ) -> None:
        """here: numbers of the sites that are played in this process."""
        scenario, initial = setting.scenario, setting.initial
        names = [f"site-{number:04d}" for number in range(scenario.sites)]
        roster = counted_roster(names)
        number_of = {hashlib.sha256(name.encode()).digest(): n for n, name in enumerate(names)}
        self.manifest = manifest_of(scenario, roster.sites, initial, setting.features)
        graph = study_graph(self.manifest)
        self.neighbours = {
            number_of[site]: [number_of[other] for other in around]
            for site, around in graph.items()
        }
        faulty = {site for fault in scenario.faults for site in fault.sites}
        cards = sorted(roster.members, key=lambda card: number_of[card.site])
        self.sites = [
            CountedSite(
                n,
                card,
                seed=scenario.seed,
                is_here=n in here,
                may_crash=n in faulty,
                neighbours=len(self.neighbours[n]),
            )
            for n, card in enumerate(cards)
        ]
        rule = rule_in_use(scenario)
        desk = Desk(engine, rule.name, rule.parameters, setting.benches)
        labour = Labour(scenario, desk, self.neighbours, rule, len(initial), records)
        self.world = CountedWorld(
            sites=self.sites,
            roster=roster,
            manifest=self.manifest,
            network=scenario.network,
            labour=labour,
            start_s=START_S,
            exchange=exchange,
        )
        self._scenario = scenario
        self._patients = setting.patients
        self._initial = digest_of(initial), initial
        late = {site for f in scenario.faults if f.kind == "join" for site in f.sites}
        for site in self.sites:
            site.own[self._initial[0]] = initial
            if site.number not in late:
                self.approve(site, is_known=True)

    # -- what a scenario does to its sites -------------------------------------------------------

    def boot(self, number: int) -> None:
        """Switch a site on, unless it is."""
        if not self.sites[number].is_up:
            self.world.boot(self.sites[number], self._around(number))

    def crash(self, number: int) -> None:
        """Cut a site's power."""
        if self.sites[number].is_up:
            self.world.crash(self.sites[number], self._around(number))

    def join(self, number: int) -> None:
        """A site's people approve now, and its node starts."""
        self.approve(self.sites[number], is_known=False)
        self.boot(number)

    def leave(self, number: int) -> None:
        """A site's people revoke the study while its node runs."""
        site = self.sites[number]
        if not site.is_here:
            return
        draft = kinds.StudyRevoked(self.manifest.study_id, "simulated").draft(APPROVER_ROLE)
        site.approved_seq = -1
        entries = site.ledger.record((draft,), int(self.world.now_s * 1e6))
        if site.is_up:
            self.world.submit(site, ev.Appended(entries, b""), 0.0)

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
        return self.world.complete()

    def digests(self) -> dict[int, bytes]:
        """Number of a site that is played here → digest of its trace."""
        return {site.number: site.digest() for site in self.sites if site.is_here}

    def counts(self) -> Counter[str]:
        """Messages, entries and signatures that would have been made or checked."""
        return self.world.counts

    def traffic(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Bytes sent and received by each site."""
        return tuple(s.bytes_out for s in self.sites), tuple(s.bytes_in for s in self.sites)

    def _around(self, number: int) -> list[CountedSite]:
        return [self.sites[other] for other in self.neighbours[number]]

    def approve(self, site: CountedSite, *, is_known: bool) -> None:
        """A site's people approve while its node is down. is_known: everybody knows from the
        start."""
        patients = bucket_of(self._patients[site.number])
        drafts = approval_drafts(
            self._scenario, self.manifest, site.card.name, self.sites[0].id, patients
        )
        entries = site.ledger.record(drafts, int((self.world.now_s - 1.0) * 1e6))
        approved = entries[-1]
        site.approved_seq = approved.seq
        if is_known:
            self.world.decisions[site.id] = StudyDecision(
                study=self.manifest.study_id,
                decision=Decision.APPROVED,
                patients_bucket=patients,
                entry_seq=approved.seq,
                entry_leaf=approved.leaf,
                decided_us=approved.time_us,
            )


def pairs_across(sites: Sequence[SiteId], numbers: Sequence[int]) -> set[frozenset[SiteId]]:
    """Each pair of one of these sites, by its number, and one of the others."""
    inside = {sites[number] for number in numbers}
    return {frozenset((a, b)) for a in inside for b in sites if b not in inside}
