"""Everything that can happen to a node: the closed set of inputs of the state machine.

An event states a fact. It never carries an open file, a socket or a callback."""

from dataclasses import dataclass
from enum import Enum

from gossip.identifiers import SiteId
from gossip.messages import Message, StudyDecision
from gossip.roster import Roster
from ledger.log import Entry
from p2pfl.core.manifest import Manifest
from p2pfl.core.meetings import Lost as Lost
from p2pfl.core.meetings import Met as Met
from p2pfl.core.names import ModelHash, Round, StudyId


class OwnLog(Enum):
    """What is known of the own log."""

    UNCONFIRMED = "unconfirmed"
    """Started, and no peer has said yet which head it knows."""
    CONFIRMED = "confirmed"
    READ_ONLY = "read-only"
    """A peer holds a signed head that this log does not contain: nothing is released any more."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The node is up: its ledger was folded, its transport listens."""

    manifests: tuple[Manifest, ...]
    """Every study manifest kept in the home."""
    models: frozenset[ModelHash]
    """Digests of the blobs that are on disk."""
    note: bytes
    """The signed head of the own log."""
    own_log: OwnLog = OwnLog.CONFIRMED
    """Unconfirmed where peers have to be asked before anything is released."""
    decisions: tuple["KnownDecision", ...] = ()
    """Other sites' decisions that are known from before."""


@dataclass(frozen=True, slots=True)
class KnownDecision:
    """What another site decided about a study, verified before."""

    site: SiteId
    decision: StudyDecision


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message whose signature and roster membership were already verified."""

    sender: SiteId
    message: Message


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """Something a member sent broke a rule below the core (signature, encoding, rate)."""

    site: SiteId
    rule: str


@dataclass(frozen=True, slots=True)
class Appended:
    """Entries are durable: the end of an `Append` effect, or of a person's command."""

    entries: tuple[Entry, ...]
    note: bytes
    """The signed head of the own log that covers them."""


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """These are the members from now on, with their newest cards."""

    roster: Roster


@dataclass(frozen=True, slots=True)
class OwnLogConfirmed:
    """Other sites said which head of the own log they know, and the own log contains it."""

    words: int = 0
    """How many said so."""
    needed: int = 0
    """How many exclude a conspiracy: fewer, and no more could be reached."""


@dataclass(frozen=True, slots=True)
class OwnLogWords:
    """So many sites said which head of the own log they know, and so many are needed."""

    words: int
    needed: int


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Under which keys a member's log signs its heads: its own entries prove it."""

    log_id: bytes
    in_force: tuple[tuple[int, bytes], ...]
    """(smallest size of heads, public key), ascending."""


@dataclass(frozen=True, slots=True)
class OfflineStart:
    """No site could be asked about the own log, and the operator had said to go on then."""


@dataclass(frozen=True, slots=True)
class OwnLogBehind:
    """Another site holds a head, signed by this site, of more entries than the own log has."""

    size: int


@dataclass(frozen=True, slots=True)
class ForkFound:
    """A proof that a log has two histories was verified and kept."""

    log_id: bytes
    form: str
    """K1 … K4."""
    proof: bytes
    """SHA-256 of the proof's file."""
    file: str = ""
    """Its name in the home."""
    witness: bytes = b""
    """K4: the site that cosigned both histories; it alone is accused. Empty if it has left."""


@dataclass(frozen=True, slots=True)
class ManifestKept:
    """A manifest was stored by a person's command (`study propose`, `study import`)."""

    manifest: Manifest
    proposer: SiteId


@dataclass(frozen=True, slots=True)
class TrainingOpened:
    """The training process of a study has loaded plan and data."""

    study: StudyId
    parameters: int
    code_hash: bytes
    env_hash: bytes
    level: str = ""
    """How well the process is confined, A to D; "" where nobody said."""


@dataclass(frozen=True, slots=True)
class Spending:
    """What a training step says it did about privacy; compared with the approved terms."""

    mech: str
    sigma: str
    q: str
    steps: int
    clip: str


@dataclass(frozen=True, slots=True)
class Trained:
    """Local training of one round ended; the update is stored, nothing was released."""

    study: StudyId
    round: Round
    model: ModelHash
    size_bytes: int
    spending: Spending
    loss: float
    seconds: float
    planned: int = 0
    """Steps there would have been; more than were made where the time for local work was over."""


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """The training process refused, crashed or was killed."""

    study: StudyId
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Obtained:
    """A neighbour's update is stored: right digest, right shape, finite."""

    study: StudyId
    round: Round
    sender: SiteId
    model: ModelHash


@dataclass(frozen=True, slots=True)
class ObtainFailed:
    """A neighbour's update could not be had, or is not what was announced.

    `hostile` tells a broken promise (wrong digest, shape, NaN) from a broken line."""

    study: StudyId
    round: Round
    sender: SiteId
    model: ModelHash
    reason: str
    hostile: bool


@dataclass(frozen=True, slots=True)
class ModelReady:
    """A model that the study needs before it can start (its initial model) is on disk."""

    study: StudyId
    model: ModelHash


@dataclass(frozen=True, slots=True)
class Averaged:
    """Robust averaging of one round ended and its result is stored."""

    study: StudyId
    round: Round
    model: ModelHash
    verdicts: tuple[str, ...]
    """Per input, in the order of the effect: kept, clipped or dropped."""
    distance: float
    """Largest distance between the own input and a neighbour's, relative to the own norm."""
    env_hash: bytes
    guard_step: str = ""
    """How much of the step the hold-out guard took, 0 to 1; empty: it did not look."""
    median_distance: float = 0.0
    """Median distance of a neighbour's model from the own input, in units of the parameters."""


@dataclass(frozen=True, slots=True)
class AveragingFailed:
    """Averaging refused its inputs: our bug or a broken disk, never a peer's doing."""

    study: StudyId
    round: Round
    message: str


@dataclass(frozen=True, slots=True)
class Scored:
    """The averaged model's score on the own hold-out. It stays at this site."""

    study: StudyId
    round: Round
    auc: float | None
    accuracy: float
    measures: tuple[tuple[str, float], ...] = ()
    """What the study's own code measures, by name: only what its manifest names, in its ranges."""


@dataclass(frozen=True, slots=True)
class NotScored:
    """A model could not be tried on the own hold-out: its training process is not there."""

    study: StudyId
    round: Round


@dataclass(frozen=True, slots=True)
class ModelReleased:
    """The final model lies, with named tensors, where the researcher finds it."""

    study: StudyId
    model: ModelHash


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by `SetTimer` is due."""

    key: "TimerKey"


@dataclass(frozen=True, slots=True)
class RoundDeadline:
    """When a round averages with whoever was heard."""

    study: StudyId
    round: Round


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed step (training process, missing model) is tried again."""

    study: StudyId


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a study that is not complete has to end."""

    study: StudyId


@dataclass(frozen=True, slots=True)
class HeadDue:
    """When the newest own head is told to everyone (at most once a second)."""


@dataclass(frozen=True, slots=True)
class ClockLept:
    """The clock of the events' seconds was set by hours: later events are by the new time."""

    by_s: float


TimerKey = RoundDeadline | Retry | Expiry | HeadDue

StudyEvent = (
    TrainingOpened
    | Trained
    | TrainingFailed
    | Obtained
    | ObtainFailed
    | ModelReady
    | Averaged
    | AveragingFailed
    | Scored
    | NotScored
    | ModelReleased
)
"""What belongs to one running study."""

Event = (
    Begin
    | Met
    | Lost
    | Delivered
    | PeerRefused
    | Appended
    | MembersChanged
    | OwnLogConfirmed
    | OwnLogWords
    | LogKeys
    | OfflineStart
    | OwnLogBehind
    | ForkFound
    | ManifestKept
    | TimerFired
    | ClockLept
    | StudyEvent
)
