"""What follows from a scenario before anybody does anything."""

from dataclasses import dataclass

from p2pfl.learning.plans import plan_named
from simulations.lab.benches import Benches, benches_for
from simulations.lab.shares import shares_of
from simulations.lab.terms import Scenario
from simulations.lab.workshop import Matrix, data_terms


@dataclass(frozen=True, slots=True)
class Setting:
    """patients: how many each site trains on."""

    scenario: Scenario
    patients: tuple[int, ...]
    features: int
    initial: Matrix
    benches: Benches

    @property
    def expected(self) -> int:
        """How many sites come to the end of the study."""
        return self.scenario.sites - len(sites_with(self.scenario, "leave"))


def setting_of(scenario: Scenario) -> Setting:
    """Raises DataRefused, PlanRefused."""
    shares = shares_of(scenario)
    features = shares[0].x.shape[1]
    initial = initial_model(scenario, features)
    patients = tuple(len(share.y) for share in shares)
    benches = benches_for(scenario.sites, len(initial))
    return Setting(scenario, patients, features, initial, benches)


def initial_model(scenario: Scenario, features: int) -> Matrix:
    """Where everybody starts, float32[d]."""
    plan = plan_named(f"tabular-{scenario.model}")
    return plan.initial(data_terms(features), scenario.training, scenario.seed)


def sites_with(scenario: Scenario, kind: str) -> set[int]:
    """Sites that a kind of fault happens to."""
    return {site for fault in scenario.faults if fault.kind == kind for site in fault.sites}
