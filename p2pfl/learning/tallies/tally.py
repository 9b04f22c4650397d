"""What a counting plan offers, and the arithmetic all of them share.

Responsible for the promise that privacy stands on: a patient's contributions have a norm of at
most the manifest's `clip_norm`, whatever the patient's data; they are added up once, noise of σ
times that norm is added to the sum, and the sum is divided by a number everyone knows. Must not
know files, rounds of others, or torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import ModelRefused, PlanRefused, PrivacyRefused
from p2pfl.learning.materials import Materials
from p2pfl.learning.plans.arguments import Scalar
from p2pfl.learning.vector import NamedShape, Schema, Vector
from p2pfl.privacy.noise import GaussianStream
from p2pfl.privacy.vectors import noisy

Wide = NDArray[np.float64]

BINS_DEFAULT: Final = 32
BINS_MAX: Final = 512
SCALE_DEFAULT: Final = 1000
_ROUNDING: Final = 1.0 + 1e-9


@dataclass(frozen=True, slots=True)
class Counted:
    """[plan.arguments] of counting plans, defaults filled in.

    bins: of each histogram; scale: patients that stand for 1.0 in an update; per: "patients",
    sums that are comparable across sites, so that a plain mean is the pooled result; or "sites",
    each site's sums over its own public number of patients, so that robust rules can compare them
    and each site counts once; value_max: see `Manifest.value_max`.
    """

    bins: int = BINS_DEFAULT
    scale: int = SCALE_DEFAULT
    per: str = "patients"
    value_max: float = 0.0


SHARED: Final = frozenset(Counted.__dataclass_fields__)


def counted(written: Mapping[str, Scalar]) -> Counted:
    """Check the arguments that all counting plans know. Raises PlanRefused."""
    default = Counted()
    per = written.get("per", default.per)
    if per not in ("patients", "sites"):
        raise PlanRefused(f'argument "per" is {per!r}, expected "patients" or "sites"')
    limit = written.get("value_max", default.value_max)
    if isinstance(limit, bool | str) or not (math.isfinite(limit) and limit >= 0.0):
        raise PlanRefused(f'argument "value_max" is {limit!r}, expected a number ≥ 0')
    return Counted(
        bins=_whole(written, "bins", default.bins, 2, BINS_MAX),
        scale=_whole(written, "scale", default.scale, 1, 10**9),
        per=str(per),
        value_max=float(limit),
    )


def _whole(written: Mapping[str, Scalar], name: str, default: int, low: int, high: int) -> int:
    value = written.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PlanRefused(f'argument "{name}" is {value!r}, expected {low} to {high}')
    return value


class Tally(Protocol):
    """A counting plan, told apart by name in a manifest.

    Its vector is the sums, in the schema's order, then numbers that everyone knows already.
    """

    @property
    def name(self) -> str:
        """As written in [plan] name."""

    def check(self, manifest: Manifest) -> None:
        """Refuse what cannot be counted. Raises PlanRefused, PrivacyRefused."""

    def sums_schema(self, manifest: Manifest) -> Schema:
        """The sums' names and shapes."""

    def public_schema(self, manifest: Manifest) -> Schema:
        """What follows the sums: computed from released numbers alone."""

    def bound(self, manifest: Manifest) -> float:
        """The largest L2 norm of one patient's contributions, for any patient there could be."""

    def sensitivity(self, manifest: Manifest) -> float:
        """The largest change of the sums when one patient is added or removed; L2 norm."""

    def public(self, manifest: Manifest, base: Vector, round_: int) -> Vector:
        """The numbers of `public_schema`. base: float32[d], the average so far."""

    def contributions(
        self, manifest: Manifest, patients: Patients, public: Vector, materials: Materials
    ) -> Iterator[Wide]:
        """Blocks float64[m, s] with one row per patient; s sums."""


def schema_of(plan: Tally, manifest: Manifest) -> Schema:
    """All tensors of the plan's vector."""
    return Schema((*plan.sums_schema(manifest).tensors, *plan.public_schema(manifest).tensors))


def check_shared(plan: Tally, manifest: Manifest) -> None:
    """What holds for every counting plan. Raises PlanRefused, PrivacyRefused."""
    privacy, rounds = manifest.privacy, manifest.study.rounds
    if manifest.plan.ranges:
        raise PlanRefused(f'plan "{plan.name}" has nothing to steer: leave [plan.ranges] empty')
    if not privacy.is_private:
        return
    if rounds != 1 or privacy.steps_per_round != 1 or privacy.sampling != "full":
        raise PrivacyRefused(
            f'plan "{plan.name}" counts every patient once: with privacy it takes rounds = 1, '
            'sampling = "full" and steps_per_round = 1'
        )
    if privacy.unit != "patient":
        raise PrivacyRefused(f'plan "{plan.name}" counts patients: write unit = "patient"')
    needed = plan.sensitivity(manifest)
    if privacy.clip_norm < needed / _ROUNDING:
        raise PrivacyRefused(
            f"clip_norm is {privacy.clip_norm:g}, and one patient changes the sums by up to "
            f"{needed:.6g}: write {clip_norm(plan, manifest):g}"
        )


def clip_norm(plan: Tally, manifest: Manifest) -> float:
    """What a manifest writes as `clip_norm`: the sensitivity, rounded up to thousandths."""
    return math.ceil(plan.sensitivity(manifest) * 1000.0) / 1000.0


def noise_in_update(plan: Tally, manifest: Manifest) -> float:
    """The standard deviation of the noise in each value of an update; 0 without privacy."""
    privacy = manifest.privacy
    scale = counted(manifest.plan.arguments).scale
    return privacy.noise_multiplier * privacy.clip_norm / scale if privacy.is_private else 0.0


def tallied(
    plan: Tally,
    manifest: Manifest,
    patients: Patients,
    base: Vector,
    round_: int,
    *,
    denominator: int,
    materials: Materials,
    stream: GaussianStream | None,
) -> Vector:
    """One site's update: its sums, noised if the study is private, and the public numbers.

    base: float32[d]; denominator: the site's public number of patients; stream: under a fresh key
    of the operating system, needed with privacy. Returns float32[d]. Raises ModelRefused,
    PrivacyRefused.
    """
    schema, sums = schema_of(plan, manifest), plan.sums_schema(manifest).parameters
    if base.shape != (schema.parameters,):
        raise ModelRefused(f"expected {schema.parameters} numbers, got {base.shape}")
    public = plan.public(manifest, base, round_)
    bound = plan.bound(manifest)
    total = np.zeros(sums, dtype=np.float64)
    for block in plan.contributions(manifest, patients, public, materials):
        total += _bounded(block, bound).sum(axis=0)
    arguments = counted(manifest.plan.arguments)
    divisor = float(arguments.scale if arguments.per == "patients" else max(1, denominator))
    if manifest.privacy.is_private:
        if stream is None:
            raise PrivacyRefused("a private count without a noise stream")
        privacy = manifest.privacy
        total = noisy(total, privacy.noise_multiplier * privacy.clip_norm, stream).astype(
            np.float64
        )
    released = (total / divisor).astype(np.float32)
    if arguments.value_max and np.abs(released).max(initial=0.0) > arguments.value_max:
        raise PlanRefused(
            f"this site's update exceeds value_max = {arguments.value_max:g}, so others would "
            "refuse it: the study expects fewer patients per site; ask its proposer for a larger "
            "value_max"
        )
    return np.concatenate([released, public.astype(np.float32)])


def _bounded(block: Wide, bound: float) -> Wide:
    """Rows of norm ≤ bound. They are by construction; privacy does not rest on that alone."""
    finite = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
    norms = np.linalg.norm(finite, axis=1)
    factors = np.minimum(1.0, bound * _ROUNDING / np.maximum(norms, 1e-300))
    bounded: Wide = finite * factors[:, None]
    return bounded


def one_hot(places: NDArray[np.int64], width: int) -> Wide:
    """float64[n, width] with a single 1 per row; a negative place gives zeros.

    >>> one_hot(np.array([1, -1]), 2).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    hit: Wide = (places[:, None] == np.arange(width)[None, :]).astype(np.float64)
    return hit


def tensor(name: str, *shape: int) -> NamedShape:
    """A named place in the vector."""
    return NamedShape(name, shape)
