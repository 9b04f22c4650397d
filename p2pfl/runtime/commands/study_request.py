"""What a proposer says to `p2pfl study new`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p2pfl.core.encoding import Encoding
from p2pfl.core.manifest import Guard, Scalar
from p2pfl.core.manifest_terms import Kept

Privacy = Literal["gaussian", "none"]
Clipped = Literal["outside", "inside"]
"""Where a patient's gradient is clipped, seen from a researcher's code."""


@dataclass(frozen=True, slots=True)
class StudyNew:
    """What a proposer says; 0 and "" stand for the defaults named in `p2pfl study new --help`."""

    out: Path
    data: str
    name: str = "study"
    schema: Path | None = None
    plan: str = "tabular-logistic"
    text: Path | None = None
    """A researcher's own plan, with plan "code"."""
    gradients: Clipped = "outside"
    bundle: str = ""
    """A bundle of this site by name or digest, with plan "bundle"."""
    arguments: Mapping[str, Scalar] | None = None
    rounds: int = 30
    consensus_rounds: int = 3
    privacy: Privacy = "gaussian"
    epsilon: float = 3.0
    delta: str = ""
    clip_norm: float = 2.0
    unit: Literal["patient", "record", "site"] = "patient"
    sampling_rate: float = 0.0
    """0: chosen from patients and ε, together with the steps."""
    steps_per_round: int = 0
    rule: str = "gm_clip"
    topology: str = "complete"
    degree: int = 0
    weighting: Literal["patients", "uniform"] = "patients"
    share_max: float = 0.5
    redraw_rounds: int = 0
    guard: Guard = "none"
    encoding: Encoding = "float32"
    staleness: int = 0
    """How many rounds old a neighbour's update may be to stand in for a missing one."""
    byzantine: float = 0.2
    rule_parameters: Mapping[str, Scalar] | None = None
    sites_min: int = 0
    neighbours_min: int = 0
    round_deadline_s: float = 0.0
    """The longest wait for neighbours; 0: two minutes, and what the model's size may ask for."""
    patience: int = 0
    """Rounds without a gain on its own hold-out after which a site trains no more; 0: never."""
    work_limit_s: float = 0.0
    """Longest local work of a round; 0: as long as its steps take."""
    keep: Kept = "last"
    expires_days: int = 365
    seed: int = 1
    patients_min: int = 0
    holdout: float = 0.0
    go_on_from: str = ""
    """A study whose released model is trained further."""
    evaluate: str = ""
    """A study whose released model is tried."""
    part: Literal["holdout", "all"] = "holdout"
    """On whom it is tried."""
    standardise: str = ""
    """A study whose released statistics scale the columns."""
