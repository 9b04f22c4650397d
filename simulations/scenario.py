"""Building a world: keys, roster, data, a study everybody has approved."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster, draft_roster, sign_roster
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core import events as ev
from p2pfl.core.history import History
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.core.manifest_terms import (
    NO_PRIVACY,
    AveragingTerms,
    DataTerms,
    Kept,
    NumberColumn,
    PlanTerms,
    StudyTerms,
    Target,
)
from p2pfl.core.manifest_writing import render_manifest
from simulations.site import (
    CONSORTIUM,
    UNPROTECTED,
    Payloads,
    SimulatedSite,
    Trainer,
    Vector,
)
from simulations.world import NetworkTerms, World

START_S = 1_800_000_000.0
LOCAL_STEPS = 5
LEARNING_RATE = 0.5
ARGUMENTS = {"learning_rate": LEARNING_RATE, "local_steps": LOCAL_STEPS}
RANGES = {"learning_rate": (0.1, 1.0), "local_steps": (1.0, 10.0)}
"""The simulated training only notes what it was steered to."""
APPROVER_ROLE = "data-owner"
UNPROTECTED_TERMS = kinds.DpTerms("none", "0", "0", 0, "0", "0.5", "none", "0")


@dataclass(frozen=True, slots=True)
class ScenarioTerms:
    """What one simulated study looks like."""

    sites: int = 4
    rounds: int = 4
    consensus_rounds: int = 1
    sites_min: int = 0
    """0: all of them."""
    neighbours_min: int = 2
    deadline_s: float = 5.0
    parameters: int = 6
    patients: int = 60
    rule: str = "gm_clip"
    topology: str = "complete"
    weighting: Literal["uniform", "patients"] = "uniform"
    degree: int = 0
    redraw_rounds: int = 0
    staleness: int = 0
    patience: int = 0
    work_limit_s: float = 0.0
    keep: Kept = "last"
    dial_only: int = 0
    """The last so many sites have no address."""
    duration_s: int = 1_000_000
    """From the start to the study's expiry."""
    network: NetworkTerms = field(default_factory=NetworkTerms)
    payloads: Payloads = field(default_factory=Payloads)
    privacy: "PrivateTerms | None" = None


@dataclass(frozen=True, slots=True)
class PrivateTerms:
    """What each round costs every site, as recorded; the simulated training adds no noise."""

    eps_per_round_u: int = 500_000
    cap_u: int = 10_000_000

    @property
    def spending(self) -> ev.Spending:
        """What the training process says it did."""
        return ev.Spending("gaussian", "4.0", "1.0", 1, "2.0")

    @property
    def dp(self) -> kinds.DpTerms:
        """What was approved."""
        return kinds.DpTerms("gaussian", "4.0", "1.0", 1, "2.0", "1e-3", "simulated", "1")


def derived(seed: int, *what: object) -> bytes:
    """32 bytes that depend on the seed and nothing else."""
    return hashlib.sha256(f"{seed}:{what}".encode()).digest()


def make_world(seed: int, terms: ScenarioTerms) -> tuple[World, Manifest]:
    """Sites with keys, data and one study proposed by the first of them; nobody is up yet."""
    sites = [_site(seed, number, terms) for number in range(terms.sites)]
    first_mute = terms.sites - terms.dial_only
    cards = [site.card(n, dials_only=n >= first_mute) for n, site in enumerate(sites)]
    drafted = draft_roster(CONSORTIUM, cards)
    roster: Roster = drafted
    for site in sites:
        roster = sign_roster(roster, site.keys.identity)
    initial = np.zeros(terms.parameters, dtype=np.float32)
    manifest = _manifest(seed, terms, [s.id for s in sites], sites[0].store(initial))
    world = World(seed=seed, sites=sites, roster=roster, network=terms.network, start_s=START_S)
    cap_u = 10_000_000 if terms.privacy is None else terms.privacy.cap_u
    for number, site in enumerate(sites):
        site.record(registered(seed, site, 50 + 10 * number, cap_u), now_s=START_S - 10)
    sites[0].disk.manifests[manifest.study_id] = manifest
    proposed = kinds.StudyProposed(manifest.study_id, sites[0].id)
    sites[0].record(proposed.draft("researcher"), now_s=START_S - 9)
    return world, manifest


def approve(
    site: SimulatedSite,
    manifest: Manifest,
    seed: int,
    now_s: float,
    privacy: PrivateTerms | None = None,
) -> None:
    """The site's data owner approves while the node is down."""
    site.disk.manifests.setdefault(manifest.study_id, manifest)
    site.record(approval(site, manifest, seed, privacy), now_s=now_s)


def approval(
    site: SimulatedSite, manifest: Manifest, seed: int, privacy: PrivateTerms | None = None
) -> Draft:
    """The entry of an approval; its table goes on from what was spent before."""
    spent_u = max(d.spent_u for d in History(site.ledger.entries).datasets.values())
    each_u = 0 if privacy is None else privacy.eps_per_round_u
    return kinds.StudyApproved(
        study=manifest.study_id,
        role=APPROVER_ROLE,
        meaning="train",
        approver_commit=derived(seed, site.name, "approver"),
        ds=dataset_of(seed, site),
        expires_us=manifest.study.expires_us,
        dp=UNPROTECTED_TERMS if privacy is None else privacy.dp,
        eps_table_u=tuple(spent_u + k * each_u for k in range(manifest.study.rounds + 1)),
    ).draft(APPROVER_ROLE)


def dataset_of(seed: int, site: SimulatedSite) -> bytes:
    """The id of the one dataset a simulated site has."""
    return derived(seed, site.name, "dataset")


def registered(seed: int, site: SimulatedSite, patients: int, cap_u: int) -> Draft:
    """The entry that registers the site's dataset."""
    return kinds.DatasetRegistered(
        ds=dataset_of(seed, site),
        fp_commit=derived(seed, site.name, "fingerprint"),
        patients_bucket=patients,
        schema_hash=derived(seed, "schema"),
        legal_basis="simulated",
        dpia="none",
        cap_u=cap_u,
        delta="1e-3",
    ).draft("data-manager")


def _site(seed: int, number: int, terms: ScenarioTerms) -> SimulatedSite:
    name = f"site-{number:03d}"
    keys = SiteKeys(*(derived(seed, name, role) for role in ("i", "t", "l", "w")))
    return SimulatedSite(
        name,
        keys,
        _trainer(seed, number, terms),
        derived(seed, name, "nonce"),
        spending=UNPROTECTED if terms.privacy is None else terms.privacy.spending,
        payloads=terms.payloads,
    )


def _trainer(seed: int, number: int, terms: ScenarioTerms) -> Trainer:
    """Logistic regression by full-batch gradient steps on this site's own synthetic patients."""
    rng = np.random.Generator(np.random.PCG64([seed, number]))
    truth = np.random.Generator(np.random.PCG64(seed)).normal(size=terms.parameters)
    features = rng.normal(size=(terms.patients, terms.parameters))
    labels = (features @ truth + rng.normal(size=terms.patients) > 0).astype(np.float64)

    def train(model: Vector, _round: int) -> Vector:
        weights = model.astype(np.float64)
        for _ in range(LOCAL_STEPS):
            predicted = 1.0 / (1.0 + np.exp(-(features @ weights)))
            weights -= LEARNING_RATE * features.T @ (predicted - labels) / terms.patients
        return weights.astype(np.float32)

    return train


def _manifest(seed: int, terms: ScenarioTerms, sites: list[SiteId], initial: bytes) -> Manifest:
    study = StudyTerms(
        name="simulated",
        rounds=terms.rounds,
        consensus_rounds=terms.consensus_rounds,
        sites=tuple(sorted(sites)),
        sites_min=terms.sites_min or terms.sites,
        neighbours_min=terms.neighbours_min,
        round_deadline_s=terms.deadline_s,
        expires_s=int(START_S) + terms.duration_s,
        seed=seed,
        initial_model=Digest(initial),
        parameters=terms.parameters,
        patience=terms.patience,
        work_limit_s=terms.work_limit_s,
        keep=terms.keep,
    )
    column = NumberColumn("x", 0.0, 1.0, 0.5, ())
    data = DataTerms("tabular", 1, 0.3, Target("y", 0.0), (column,))
    averaging = AveragingTerms(
        terms.rule,
        terms.topology,
        terms.degree,
        (),
        terms.weighting,
        1.0,
        0.2,
        {},
        terms.redraw_rounds,
        staleness=terms.staleness,
    )
    raw = render_manifest(
        study=study,
        plan=PlanTerms("tabular-logistic", ARGUMENTS, RANGES),
        data=data,
        privacy=NO_PRIVACY,
        averaging=averaging,
    )
    return parse_manifest(raw)
