"""A counting study at one site: what `Trainer` is for training, with the same requests.

Responsible for taking the noise's key from the operating system, one for each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused, PrivacyRefused
from p2pfl.learning.local_work import LocalWork
from p2pfl.learning.materials import Materials
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.scoring import Score
from p2pfl.learning.tallies import tally_of
from p2pfl.learning.tallies.tally import schema_of, tallied
from p2pfl.learning.vector import Vector
from p2pfl.privacy.noise import KEY_BYTES, GaussianStream


class Counter:
    """One study's counting at one site."""

    def __init__(
        self,
        manifest: Manifest,
        patients: Patients,
        *,
        denominator: int,
        materials: Materials,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """denominator: the public number of patients. Raises PlanRefused, PrivacyRefused."""
        self._plan = tally_of(manifest)
        self._plan.check(manifest)
        if denominator < 1:
            raise PrivacyRefused(f"the public number of patients is {denominator}, expected ≥ 1")
        self.schema = schema_of(self._plan, manifest)
        self._manifest = manifest
        self._patients = patients
        self._denominator = denominator
        self._materials = materials
        self._random_bytes = random_bytes

    def train(self, base: Vector, round_: int, changes: Mapping[str, Scalar]) -> LocalWork:
        """This site's sums of a round. base: float32[d], the average so far."""
        if changes:
            raise PlanRefused("a count has no arguments that could be steered")
        stream = None
        if self._manifest.privacy.is_private:
            stream = GaussianStream(self._random_bytes(KEY_BYTES))
        vector = tallied(
            self._plan,
            self._manifest,
            self._patients,
            base,
            round_,
            denominator=self._denominator,
            materials=self._materials,
            stream=stream,
        )
        return LocalWork(vector, 0.0, 1, 1)

    def losses(self, vector: Vector, on: Patients) -> Vector:
        """Raises PlanRefused: sums are no model."""
        raise PlanRefused("sums are no model that has a loss")

    def score(self, vector: Vector, on: Patients) -> Score:
        """Raises PlanRefused: sums are no model."""
        raise PlanRefused("sums are no model that could be scored")
