"""What a study that counts released here, in numbers that people read."""

from __future__ import annotations

import json
from dataclasses import dataclass

from p2pfl.core.names import StudyId
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.models import released_model
from p2pfl.runtime.errors import EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json

DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class CountsSeen:
    """Released statistics or metrics. report: see `p2pfl.learning.tallies.report`."""

    study: bytes
    name: str
    hash: bytes
    epsilon: float
    delta: str
    """"0" without privacy."""
    report: Json


def released_counts(home: Home, prefix: str) -> CountsSeen:
    """Read what was released. Raises OperatorError."""
    model = released_model(home, prefix)
    if not model.manifest.is_counting:
        raise OperatorError(
            f"{model.seen.name} released a model, not statistics or metrics.",
            fix="`p2pfl model evaluate` tries it; `p2pfl study results` shows its rounds.",
            exit_code=EXIT_USAGE,
        )
    purpose = "Reading the released sums"
    finished = run_module(
        "p2pfl.learning.tallies.report",
        (),
        given=json.dumps(
            {
                "manifest": str(home.study(StudyId(model.seen.study))),
                "model": str(model.vector),
            }
        ).encode(),
        deadline_s=DEADLINE_S,
        purpose=purpose,
    )
    approval = model.past.approval
    return CountsSeen(
        study=model.seen.study,
        name=model.seen.name,
        hash=model.seen.hash,
        epsilon=model.past.eps_u / 1e6,
        delta=approval.dp.delta if approval is not None else "0",
        report=json.loads(output_of(finished, purpose)),
    )
