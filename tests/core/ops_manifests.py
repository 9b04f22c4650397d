"""A valid study manifest, part by part, for tests to break."""

from __future__ import annotations

from gossip.identifiers import Digest, SiteId
from p2pfl.core.manifest import (
    AveragingTerms,
    CategoryColumn,
    DataTerms,
    NumberColumn,
    PlanTerms,
    PrivacyTerms,
    StudyTerms,
    Target,
    render_manifest,
)
from p2pfl.core.manifest_bundle import BundleTerms
from p2pfl.core.manifest_code import CodeTerms

SITES = tuple(SiteId(bytes([index]) * 32) for index in range(5))
STUDY = StudyTerms(
    name="heart-disease",
    rounds=30,
    consensus_rounds=3,
    sites=SITES,
    sites_min=4,
    neighbours_min=2,
    round_deadline_s=30.0,
    expires_s=1_900_000_000,
    seed=7,
    initial_model=Digest(bytes(range(32))),
    parameters=17,
)
PLAN = PlanTerms(
    name="tabular-logistic",
    arguments={"learning_rate": 0.5, "local_steps": 10, "momentum_reset": False},
    ranges={"learning_rate": (0.01, 2.0)},
)
DATA = DataTerms(
    kind="tabular",
    patients_min=20,
    holdout=0.34,
    target=Target("num", 0.0),
    columns=(
        NumberColumn("age", 20.0, 90.0, 55.0, (0.0,)),
        CategoryColumn("cp", (1.0, 2.0, 3.0, 4.0), ()),
    ),
)
PRIVACY = PrivacyTerms(
    mechanism="gaussian",
    epsilon=3.0,
    delta="1e-3",
    clip_norm=2.0,
    unit="patient",
    sampling="full",
    sampling_rate=1.0,
    noise_multiplier=9.1,
    steps_per_round=1,
)
AVERAGING = AveragingTerms(
    rule="gm_clip",
    topology="complete",
    degree=0,
    edges=(),
    weighting="patients",
    share_max=0.5,
    byzantine=0.2,
    parameters={},
)


def rendered(
    study: StudyTerms = STUDY,
    plan: PlanTerms = PLAN,
    data: DataTerms = DATA,
    privacy: PrivacyTerms = PRIVACY,
    averaging: AveragingTerms = AVERAGING,
    code: CodeTerms | None = None,
    bundle: BundleTerms | None = None,
) -> bytes:
    return render_manifest(
        study=study,
        plan=plan,
        data=data,
        privacy=privacy,
        averaging=averaging,
        code=code,
        bundle=bundle,
    )
