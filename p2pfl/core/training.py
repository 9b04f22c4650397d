"""The training process of one study as the core sees it, and what training may still cost.

Responsible for opening it once, for trying again a few times, and for the two reasons not to train:
the dataset's budget, and a process that did not keep to the approved terms."""

from enum import Enum

from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import DatasetHistory, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, ModelHash, StudyId

RETRY_S = 1.0
FAILURES_MAX = 3
MEMORY_LIMIT = "memory-limit"
DISK_LIMIT = "disk-limit"
LIMITS = (MEMORY_LIMIT, DISK_LIMIT)
"""How training failed that used up more than this site allows: its code passes it once more."""
LIMITS_PASSED_MAX = 2
DIGEST_BYTES = 32


class Process(Enum):
    """What is known of the training process."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    GIVEN_UP = "given-up"


class Training:
    """One study's training process."""

    def __init__(self, manifest: Manifest, bucket: int) -> None:
        self.process = Process.CLOSED
        self.environment: drafts.Environment | None = None
        self._manifest = manifest
        self._bucket = bucket
        self._failures = 0
        self._limits_passed = 0

    @property
    def is_settled(self) -> bool:
        """Whether it is open, or will not be."""
        return self.process in (Process.OPEN, Process.GIVEN_UP)

    def open(self, dataset: DatasetId, code: kinds.CodeApproved | None) -> list[fx.Effect]:
        """Start the process unless it is under way: opening takes seconds, a second time kills.

        code: what was approved of a researcher's own text."""
        if self.process is not Process.CLOSED:
            return []
        self.process = Process.OPENING
        study = StudyId(self._manifest.study_id)
        return [fx.OpenTraining(study, self._manifest, dataset, self._bucket, code)]

    def opened(self, event: ev.TrainingOpened) -> str:
        """The process is ready. Returns what is wrong with it, or nothing."""
        expected = self._manifest.study.parameters
        if event.parameters != expected:
            return f"the plan builds {event.parameters} parameters, the manifest says {expected}"
        if {len(event.code_hash), len(event.env_hash)} != {DIGEST_BYTES}:
            return "the training process did not say what code it runs"
        self.process = Process.OPEN
        # A researcher's text is named by the node: in its process nobody's word counts.
        text = self._manifest.foreign
        code_hash = event.code_hash if text is None else text.sha256
        self.environment = drafts.Environment(code_hash, event.env_hash, event.level)
        return ""

    def entries(
        self,
        past: StudyHistory,
        dataset: DatasetHistory,
        base: ModelHash,
        event: ev.Trained,
        mandate: fx.Mandate,
        steered: tuple[tuple[str, str], ...],
    ) -> fx.Append | None:
        """What goes on record of a round; None if it did not keep to the approved terms.

        A round that succeeded forgives earlier failures."""
        assert past.approval is not None, "a study runs only under an approval"
        assert self.environment is not None, "training needs an open process"
        if not drafts.is_as_approved(past.approval.dp, event.spending):
            return None
        self._failures = 0
        return drafts.training_entries(
            self._manifest, past, dataset, self.environment, base, event, mandate, steered
        )

    def failed(self, now_s: float, code: str) -> list[fx.Effect]:
        """Try again a few times, later each time; nothing if that is pointless.

        A limit of the site's that is passed a second time is never forgiven."""
        self.environment, self._failures = None, self._failures + 1
        self._limits_passed += code in LIMITS
        if self._failures > FAILURES_MAX or self._limits_passed >= LIMITS_PASSED_MAX:
            self.process = Process.GIVEN_UP
            return []
        self.process = Process.CLOSED
        study = StudyId(self._manifest.study_id)
        return [fx.SetTimer(study, ev.Retry(study), now_s + RETRY_S * self._failures)]


def refusal_by_budget(past: StudyHistory, dataset: DatasetHistory) -> str:
    """Why the next private round must not happen, or nothing: it would exceed the cap."""
    approval = past.approval
    assert approval is not None, "a study runs only under an approval"
    table, after, cap_u = approval.eps_table_u, past.trainings + 1, dataset.terms.cap_u
    if approval.dp.mech == "none":
        return ""
    if after >= len(table):
        return f"the approval covers {len(table) - 1} private rounds, all of which were used"
    if table[after] <= cap_u:
        return ""
    left_u = max(0, cap_u - dataset.spent_u)
    return (
        "the next round would exceed the privacy budget of the dataset: ε "
        f"{left_u / 1e6:.3f} is left of {cap_u / 1e6:.3f}"
    )
