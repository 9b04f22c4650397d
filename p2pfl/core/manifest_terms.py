"""What a study manifest says, as frozen values: the words of every section and their units.

Only values and what follows from them by arithmetic. How they are read from TOML and which
values are allowed is `p2pfl.core.manifest`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NewType

from gossip.identifiers import Digest, SiteId
from p2pfl.core.encoding import Encoding
from p2pfl.core.manifest_bundle import BundleTerms
from p2pfl.core.manifest_code import CodeTerms
from p2pfl.core.manifest_table import Scalar

StudyId = NewType("StudyId", bytes)
"""SHA-256 of the manifest's TOML bytes as they were proposed."""

Mechanism = Literal["none", "gaussian"]
Sampling = Literal["full", "poisson"]
Unit = Literal["patient", "record", "site"]
Intensity = Literal["zscore", "range"]
AccountedMechanism = Literal["none", "gaussian", "poisson"]
Guard = Literal["none", "holdout"]
Kept = Literal["last", "best"]


@dataclass(frozen=True, slots=True)
class StudyTerms:
    """[study]: who takes part, for how long, from which model."""

    name: str
    rounds: int
    """Training rounds; private ones if the study is private."""
    consensus_rounds: int
    """Rounds of mixing without training, at the end."""
    sites: tuple[SiteId, ...]
    """Sorted, distinct."""
    sites_min: int
    """Approvals that have to be known before round 0."""
    neighbours_min: int
    """Neighbours that have to be heard for a round to count."""
    round_deadline_s: float
    expires_s: int
    """Unix seconds; nothing is trained from this moment on."""
    seed: int
    """Fixes everything that is not privacy noise."""
    initial_model: Digest
    """SHA-256 of the safetensors file every site starts from."""
    parameters: int
    """d, the length of the model vector."""
    patience: int = 0
    """A site trains no more after so many rounds without a gain on its own hold-out; 0: it does."""
    work_limit_s: float = 0.0
    """A round's local steps end at a site after so long, however many are left; 0: they do not."""
    keep: Kept = "last"
    """Which model a site releases: its last one, or the one that was best on its own hold-out."""

    @property
    def rounds_total(self) -> int:
        """Training and consensus rounds together."""
        return self.rounds + self.consensus_rounds

    @property
    def expires_us(self) -> int:
        """The expiry in the ledger's unit, microseconds UTC."""
        return self.expires_s * 1_000_000


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """[plan]: which shipped training plan runs, or "code", with which arguments."""

    name: str
    arguments: Mapping[str, Scalar]
    ranges: Mapping[str, tuple[float, float]]
    """Inside these the proposer may steer an argument while the study runs."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted: 1 where `column` is above `positive_above`, else 0."""

    column: str
    positive_above: float

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it is read from."""
        return (self.column,)

    @property
    def words(self) -> str:
        """What is predicted, for people."""
        return f"{self.column} > {self.positive_above:g}"


@dataclass(frozen=True, slots=True)
class SurvivalTarget:
    """What is predicted: how soon something happens to a patient.

    time: a column with positive numbers in one unit at all sites; event: a column above 0 where it
    happened then, 0 where the patient was last seen without it.
    """

    time: str
    event: str

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it is read from."""
        return (self.time, self.event)

    @property
    def words(self) -> str:
        """What is predicted, for people."""
        return f"{self.time} until {self.event}"


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A measured value, scaled from the agreed public range to −1…1 and clipped."""

    name: str
    low: float
    high: float
    typical: float
    """Used where the value is missing; agreed, not computed from patients."""
    missing: tuple[float, ...]
    """Codes that mean missing, besides an empty cell and "?"."""


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A coded category, one-hot over the agreed codes; anything else is all zeros."""

    name: str
    categories: tuple[float, ...]
    missing: tuple[float, ...]


Column = NumberColumn | CategoryColumn


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image that a model marks: the voxels with one of these labels.

    Regions may lie inside each other, as enhancing tumour lies in the whole tumour.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImageTerms:
    """[data.images]: one set of images per patient, brought to one shape at every site.

    Nothing in it is computed over patients: each volume is scaled by itself or by an agreed range.
    """

    modalities: tuple[str, ...]
    """The study's own names, in the order of the model's input channels."""
    modalities_min: int
    """How many of them a patient needs; the others are zeros, and the model is told which."""
    window: tuple[int, ...]
    """Voxels a model sees at once, 2 or 3 numbers; 2: single slices."""
    placement: Literal["centre", "patches"]
    """The window's place: the volume's middle, or anywhere (and sliding where it is scored)."""
    spacing: tuple[float, ...]
    """Millimetres per voxel after resampling; empty: as they are."""
    intensity: Intensity
    """Each volume by its own mean and deviation, or by the agreed range."""
    intensity_range: tuple[float, float]
    """Low and high with "range", else zeros."""
    regions: tuple[Region, ...]
    """Empty where no masks are needed."""

    @property
    def channels(self) -> int:
        """Model inputs per voxel: the modalities, and where some may be missing, which are."""
        is_masked = self.modalities_min < len(self.modalities)
        return len(self.modalities) * (2 if is_masked else 1)


@dataclass(frozen=True, slots=True)
class DataTerms:
    """[data]: what a site's data has to look like; it needs nothing computed from patients."""

    kind: Literal["tabular", "images"]
    patients_min: int
    holdout: float
    """Share of the patients that is never trained on."""
    target: Target | SurvivalTarget | None
    """None where no column is predicted: segmentation, and models of the inputs themselves."""
    columns: tuple[Column, ...]
    images: ImageTerms | None = None
    """With kind "images" only."""

    @property
    def features(self) -> int:
        """Number of model inputs from columns after one-hot encoding."""
        return sum(
            len(column.categories) if isinstance(column, CategoryColumn) else 1
            for column in self.columns
        )

    @property
    def predicted(self) -> str:
        """What a model says, for people."""
        if self.target is not None:
            return self.target.words
        if self.images is not None and self.images.regions:
            return ", ".join(region.name for region in self.images.regions)
        return "nothing: it models its inputs"


@dataclass(frozen=True, slots=True)
class PrivacyTerms:
    """[privacy]: what one site releases per round, and the ε the whole study aims at.

    With mechanism "none" every number is 0, `delta` is "0", and `is_private` is False.
    """

    mechanism: Mechanism
    epsilon: float
    """Target over the whole study for a dataset without history."""
    delta: str
    """Decimal string, as it goes into the ledger."""
    clip_norm: float
    """Largest L2 norm of one unit's gradient; with unit "site", of a round's whole update."""
    unit: Unit
    sampling: Sampling
    sampling_rate: float
    """q, the share of units in one step; 1.0 with full batches."""
    noise_multiplier: float
    """σ, the noise's standard deviation in units of what one unit can change: `clip_norm`, and
    twice that with unit "site" (an update may turn into any other one)."""
    steps_per_round: int

    @property
    def is_private(self) -> bool:
        """Whether training is differentially private."""
        return self.mechanism != "none"

    @property
    def clips_patients(self) -> bool:
        """Whether single patients' gradients are clipped and noised while training."""
        return self.is_private and self.unit != "site"

    @property
    def is_by_update(self) -> bool:
        """Whether the node protects a round's whole update, whatever training did."""
        return self.is_private and self.unit == "site"

    @property
    def update_deviation(self) -> float:
        """The noise's standard deviation per parameter where whole updates are protected.

        Whatever changes in a site's data, one clipped update turns into another one, at most twice
        the norm away: σ is in units of that, so that (σ, q = 1) is what has to be accounted for
        the site, and for each of its patients.
        """
        return 2.0 * self.noise_multiplier * self.clip_norm

    @property
    def accounted(self) -> AccountedMechanism:
        """The mechanism's name in ledger entries and ε accounting."""
        if self.mechanism == "none":
            return "none"
        return "poisson" if self.sampling == "poisson" else "gaussian"


NO_PRIVACY = PrivacyTerms(
    mechanism="none",
    epsilon=0.0,
    delta="0",
    clip_norm=0.0,
    unit="patient",
    sampling="full",
    sampling_rate=0.0,
    noise_multiplier=0.0,
    steps_per_round=0,
)


@dataclass(frozen=True, slots=True)
class AveragingTerms:
    """[averaging]: how a site mixes its neighbours' models into its own."""

    rule: str
    topology: str
    degree: int
    """Neighbours per site where the topology lets one choose (random-regular); else 0."""
    edges: tuple[tuple[SiteId, SiteId], ...]
    """Who averages with whom, with topology "custom"; else empty."""
    weighting: Literal["patients", "uniform"]
    share_max: float
    """No site's weight share exceeds this, however many patients it has."""
    byzantine: float
    """β, the weight share that is allowed to lie."""
    parameters: Mapping[str, Scalar]
    redraw_rounds: int = 0
    """A random graph is drawn anew after so many rounds; 0: never."""
    guard: Guard = "none"
    """Whether a mixing step that the own hold-out does not bear is halved or refused."""
    encoding: Encoding = "float32"
    """How trained updates are written; what is only mixed is always exchanged as float32."""
    staleness: int = 0
    """Where a neighbour's update of the round is missing, its newest one up to so many rounds old
    counts, divided by 1 + its age; 0: none does."""

    def epoch_of(self, round_: int) -> int:
        """Which drawing of the graph a round uses, from 0."""
        return round_ // self.redraw_rounds if self.redraw_rounds else 0


Use = Literal["start", "evaluate", "standardise"]
"""What a released model is taken for: training goes on from it, it is tried on patients, or its
numbers (means, variances) scale the columns."""


@dataclass(frozen=True, slots=True)
class Material:
    """[start], [evaluate] or [standardise]: a model that another study released, and where that
    is on record.
    """

    use: Use
    model: Digest
    """SHA-256 of its vector's file, as `model.released` names it."""
    study: StudyId
    site: SiteId
    """Whose ledger says so."""
    entry: int
    """The number of that entry."""
    parameters: int
    """The length of its vector."""


COUNTING_PLANS: Final = ("statistics", "evaluation")
"""Plans that add up what each patient contributes, once, in place of training a model."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole study, and the bytes whose hash is its id."""

    study: StudyTerms
    plan: PlanTerms
    data: DataTerms
    privacy: PrivacyTerms
    averaging: AveragingTerms
    raw: bytes
    study_id: StudyId
    materials: tuple[Material, ...] = ()
    """Released models it builds on, each use at most once."""
    code: CodeTerms | None = None
    """The plan's text, where it is not one that nodes are shipped with."""
    bundle: BundleTerms | None = None
    """The bundle that runs in place of a plan."""

    @property
    def foreign(self) -> CodeTerms | BundleTerms | None:
        """What somebody else wrote and this site approves by its hash; None: a shipped plan."""
        return self.code or self.bundle

    @property
    def is_counting(self) -> bool:
        """Whether sites add up patients' contributions in place of training a model."""
        return self.plan.name in COUNTING_PLANS

    @property
    def value_max(self) -> float:
        """Updates with a larger absolute value are refused; 0: any finite value may come.

        Only a counting plan can say what no honest site exceeds."""
        limit = self.plan.arguments.get("value_max", 0.0) if self.is_counting else 0.0
        return 0.0 if isinstance(limit, bool | str) else float(limit)

    def encoding_at(self, round_: int) -> Encoding:
        """How a round's updates are written."""
        return self.averaging.encoding if round_ < self.study.rounds else "float32"

    @property
    def named_models(self) -> frozenset[Digest]:
        """Models that every site of the study has to have."""
        return frozenset({self.study.initial_model, *(found.model for found in self.materials)})

    def material(self, use: Use) -> Material | None:
        """The released model that is taken for this use, if any is."""
        return next((found for found in self.materials if found.use == use), None)
