"""No false alarms on what the node's own state machine writes, through crashes and loss."""

import numpy as np
import pytest
from prov_stories import epsilon_of

from ledger.log import Verification
from ledger.provenance.audit import AuditReport, audit
from ledger.provenance.findings import AuditContext
from ledger.provenance.kinds import AggDone, StudyApproved, parse
from p2pfl.core.history import Standing
from p2pfl.core.manifest import Manifest
from simulations.scenario import ScenarioTerms, approve, make_world
from simulations.site import SimulatedSite
from simulations.world import NetworkTerms, World

PAUSE_S = 3.0
PAUSES_MAX = 40


def lived(seed: int, loss: float) -> World:
    """Five sites, a study of ten rounds, four crashes at random effects, one of them long."""
    terms = ScenarioTerms(
        sites=5,
        rounds=8,
        consensus_rounds=2,
        sites_min=3,
        deadline_s=1.0,
        network=NetworkTerms(loss=loss),
    )
    world, manifest = make_world(seed, terms)
    random = np.random.Generator(np.random.PCG64(seed))
    cuts = {int(at) for at in random.integers(50, 1500, size=4)}
    down: list[SimulatedSite] = []

    def cut(site: SimulatedSite, count: int) -> bool:
        if count in cuts:
            down.append(site)
        return count in cuts

    world.before_effect = cut
    for site in world.sites.values():
        approve(site, manifest, seed, world.now_s - 5)
        world.boot(site)
    for pause in range(PAUSES_MAX):
        if world.run(lambda: are_through(world, manifest), PAUSE_S):
            break
        while down and pause % 2:  # the others go on without it for a while
            site = down.pop()
            if not site.is_up:
                world.boot(site)
    return world


def are_through(world: World, manifest: Manifest) -> bool:
    return all(
        site.is_up and site.core.history.study(manifest.study_id).standing is Standing.CLOSED
        for site in world.sites.values()
    )


def audit_of(world: World, site: SimulatedSite) -> AuditReport:
    entries = site.ledger.entries
    approval = next(r for e in entries[1:] if isinstance(r := parse(e), StudyApproved))
    context = AuditContext(
        site=site.id,
        verification=Verification((), len(entries), None),
        now_us=int(world.now_s * 1e6),
        names={other.id: other.name for other in world.sites.values()},
        approver_roles=frozenset({approval.role}),
    )
    return audit(entries, context, epsilon_of=epsilon_of)


@pytest.mark.parametrize(("seed", "loss"), [(2, 0.0), (4, 0.0), (5, 0.2), (8, 0.0), (9, 0.1)])
def test_every_site_of_a_troubled_world_passes_its_audit(seed: int, loss: float) -> None:
    world = lived(seed, loss)
    for site in world.sites.values():
        report = audit_of(world, site)
        assert report.findings == (), (seed, site.name)
        assert report.exit_code == 0


def test_these_worlds_do_see_averages_and_catch_ups() -> None:
    averages = [
        record
        for site in lived(2, 0.0).sites.values()
        for entry in site.ledger.entries[1:]
        if isinstance(record := parse(entry), AggDone)
    ]
    assert any(record.own.seq >= 0 for record in averages)
    assert any(record.own.seq == -1 for record in averages)
