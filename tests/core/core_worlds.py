"""Small worlds for the tests of the core, and what has to hold at the end of each of them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from ledger.log import Verification
from ledger.log.tree import Frontier
from ledger.provenance import kinds
from ledger.provenance.audit import audit
from ledger.provenance.findings import AuditContext, DpEvent
from ledger.provenance.terms import Kind
from p2pfl.core.history import History, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import StudyId
from simulations.scenario import (
    APPROVER_ROLE,
    PrivateTerms,
    ScenarioTerms,
    approval,
    approve,
    make_world,
)
from simulations.site import SimulatedSite
from simulations.world import World

__all__ = ["approval"]

R = TypeVar("R", bound=Kind)

PRIVATE = PrivateTerms(cap_u=5_000_000_000)
SMALL = ScenarioTerms(sites=3, rounds=2, consensus_rounds=1, deadline_s=2.0, privacy=PRIVATE)
FOUR = ScenarioTerms(
    sites=4, rounds=4, consensus_rounds=1, sites_min=3, deadline_s=2.0, privacy=PRIVATE
)
LONG = replace(FOUR, rounds=25)
RESTART_S = 1.0
ENOUGH_S = 300.0


@dataclass(frozen=True, slots=True)
class Story:
    """One study in one world."""

    seed: int
    terms: ScenarioTerms
    world: World
    manifest: Manifest

    @property
    def study(self) -> StudyId:
        return StudyId(self.manifest.study_id)

    @property
    def sites(self) -> list[SimulatedSite]:
        return list(self.world.sites.values())

    def approve(self, *sites: SimulatedSite) -> None:
        """The data owners of these sites approve while their nodes are down."""
        for site in sites:
            approve(site, self.manifest, self.seed, self.world.now_s - 5, self.terms.privacy)

    def boot(self, *sites: SimulatedSite) -> None:
        for site in sites:
            self.world.boot(site)

    def past(self, site: SimulatedSite) -> StudyHistory:
        """What the site's ledger says, whether its node is up or not."""
        return History(site.ledger.entries).study(self.study)

    def runs_until(self, condition: Callable[[], bool], limit_s: float = ENOUGH_S) -> bool:
        return self.world.run(condition, limit_s)

    def wait(self, seconds: float) -> None:
        self.world.run(lambda: False, seconds)

    def is_complete(self, *sites: SimulatedSite) -> bool:
        """Complete on record, and released for real."""
        return all(
            site.is_up
            and site.core.history.study(self.study).is_complete
            and site.released.get(self.study) == site.core.history.study(self.study).released
            for site in sites or self.sites
        )

    def completes(self, *sites: SimulatedSite) -> bool:
        return self.runs_until(lambda: self.is_complete(*sites))

    def records(self, site: SimulatedSite, kind: type[R]) -> list[R]:
        """Records of one kind in a site's ledger."""
        parsed = (kinds.parse(entry) for entry in site.ledger.entries[1:])
        return [record for record in parsed if isinstance(record, kind)]

    def waiting(self, site: SimulatedSite) -> list[str]:
        """Codes of what the site told its people to wait for."""
        return [notice.code for notice in site.notices if hasattr(notice, "code")]

    def happened(self, site: SimulatedSite) -> list[str]:
        """Names of what the site told its people."""
        return [notice.name for notice in site.notices if hasattr(notice, "name")]


def begin(seed: int = 1, terms: ScenarioTerms = SMALL) -> Story:
    """A world with a proposed study; nobody is up."""
    world, manifest = make_world(seed, terms)
    return Story(seed, terms, world, manifest)


def started(seed: int = 1, terms: ScenarioTerms = SMALL) -> Story:
    """A world in which every site approved and is up."""
    story = begin(seed, terms)
    story.approve(*story.sites)
    story.boot(*story.sites)
    return story


def crash_at(story: Story, counts: set[int], restart_s: float = RESTART_S) -> None:
    """Cut the power of whoever is about to perform these effects; it comes back by itself."""

    def cut(site: SimulatedSite, count: int) -> bool:
        if count in counts:
            story.world.restart(site, restart_s)
        return count in counts

    story.world.before_effect = cut


def check(story: Story) -> None:
    """What holds of every ledger, however its site fared."""
    for site in story.sites:
        check_ledger(story, site)
    check_heads(story)


def check_ledger(story: Story, site: SimulatedSite) -> None:
    """The audit finds nothing, and ε is what the table says of the trainings on record."""
    entries, where = site.ledger.entries, (story.seed, site.name)
    context = AuditContext(
        site=site.id,
        verification=Verification((), len(entries), None),
        now_us=int(story.world.now_s * 1e6),
        names={other.id: other.name for other in story.sites},
        approver_roles=frozenset({APPROVER_ROLE}),
    )
    report = audit(entries, context, epsilon_of=epsilon_of)
    found = [(where, finding.code, finding.sentence) for finding in report.findings]
    assert found == [], found
    trainings = story.records(site, kinds.TrainDone)
    each_u = story.terms.privacy.eps_per_round_u if story.terms.privacy else 0
    totals = [record.eps_total_u for record in trainings]
    assert totals == [each_u * (k + 1) for k in range(len(trainings))], where
    history = History(entries)
    assert [d.spent_u for d in history.datasets.values()] == [each_u * len(trainings)], where


def check_heads(story: Story) -> None:
    """Every head that anybody took for true is one of the log as it stands now."""
    for owner in story.sites:
        frontier, roots = Frontier(), {}
        for size, entry in enumerate(owner.ledger.entries, start=1):
            frontier.append(entry.leaf)
            roots[size] = frontier.root()
        for site, log_id in itertools.product(story.sites, [owner.ledger.identity.log_id]):
            seen = site.peer_heads.get(log_id, {})
            assert seen.items() <= roots.items(), (story.seed, owner.name, site.name)


def epsilon_of(events: object, _delta: float) -> float:
    """ε that adds up: half a unit per private step, like the scenarios' tables."""
    assert isinstance(events, tuple)
    steps = sum(event.steps for event in events if isinstance(event, DpEvent))
    return steps * PRIVATE.eps_per_round_u / 1e6
