"""`p2pfl privacy audit`: the private steps of a study, tried on made-up patients."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.opening import read_history
from p2pfl.runtime.commands.study_rehearsing import manifest_of
from p2pfl.runtime.errors import EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import from_json

DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class CanariesFound:
    """What the auditing process answers; see there."""

    canaries: int
    guesses: int
    right: int
    epsilon_lower: float
    epsilon_claimed: float
    delta: float
    error: float
    steps: int
    passed: bool


@dataclass(frozen=True, slots=True)
class PrivacyAudited:
    """An audit of one study's steps as this installation takes them."""

    study: bytes
    name: str
    found: CanariesFound


def privacy_audit(home: Home, given: str, canaries: int) -> PrivacyAudited:
    """Run the audit. given: a manifest's path or a study. Raises OperatorError, ManifestError."""
    manifest = manifest_of(home, read_history(home), given)
    if manifest.is_counting or not manifest.privacy.is_private:
        what = "counts instead of training" if manifest.is_counting else "has no privacy"
        raise OperatorError(
            f"{manifest.study.name} {what}: there are no private training steps to audit.",
            fix="Name a study that trains with differential privacy.",
            exit_code=EXIT_USAGE,
        )
    purpose = "The privacy audit"
    with tempfile.TemporaryDirectory(prefix="p2pfl-privacy-audit-") as scratch:
        path = Path(scratch) / "manifest.toml"
        path.write_bytes(manifest.raw)
        request = {"manifest": str(path), "canaries": canaries, "noise_factor": 1.0}
        finished = run_module(
            "p2pfl.learning.privacy_audit",
            (),
            given=json.dumps(request).encode(),
            deadline_s=DEADLINE_S,
            purpose=purpose,
        )
    found = from_json(CanariesFound, json.loads(output_of(finished, purpose)))
    return PrivacyAudited(manifest.study_id, manifest.study.name, found)
