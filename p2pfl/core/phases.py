"""Where in a round a study is, and what keeps it from starting the next one."""

from enum import Enum

from p2pfl.core.base_model import BaseModel
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import Round
from p2pfl.core.planned import rounds_planned
from p2pfl.core.training import Process


class Phase(Enum):
    """What a study does, or waits for."""

    WAITING = "waiting"
    TRAINING = "training"
    RECORDING = "recording"
    GATHERING = "gathering"
    AVERAGING = "averaging"
    CLOSING = "closing"
    FINISHING = "finishing"
    LEAVING = "leaving"
    ENDED = "ended"


MAY_EXPIRE = (Phase.WAITING, Phase.TRAINING, Phase.GATHERING, Phase.AVERAGING)
"""Between two entries on their way to the ledger nothing is cut short."""
OVER = (Phase.LEAVING, Phase.ENDED)


def hindrance(
    manifest: Manifest,
    past: StudyHistory,
    round_: Round,
    base: BaseModel,
    present: int,
    process: Process,
) -> tuple[str, str] | None:
    """What a round cannot start without: the model, enough approvals, the training process.

    present: sites that approve, this one included. Returns a code and a sentence."""
    terms = manifest.study
    if not base.is_here:
        return "model", "waits for the initial model from a neighbour"
    if present < terms.sites_min and not past.published:
        sentence = f"waits for approvals: {present} of {terms.sites_min} sites approve so far"
        return "approvals", sentence
    is_trained = round_ < rounds_planned(manifest, past).trained
    if is_trained and not base.has_materials:
        return "material", "waits for a released model that the study builds on, from a neighbour"
    if is_trained and process is not Process.OPEN:
        return "training", "waits for its training process to load plan and data"
    return None
