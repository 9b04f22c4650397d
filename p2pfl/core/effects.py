"""Everything the state machine can ask for: the closed set of its outputs.

Effects of one study are performed in list order, and an `Append` is durable before the next
effect of that study starts. Long effects only start; their end comes back as an event."""

from dataclasses import dataclass

from gossip.identifiers import SiteId
from gossip.messages import Message
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core.encoding import Encoding
from p2pfl.core.events import TimerKey
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, ModelHash, Round, StudyId


@dataclass(frozen=True, slots=True)
class SeqLink:
    """An integer field of one draft that names the sequence number another draft will get.

    Sequence numbers are known only inside the commit, so the ledger's writer fills them in."""

    draft: int
    field: str
    names: int


@dataclass(frozen=True, slots=True)
class Append:
    """Commit these entries together; `Appended` comes back when they are durable."""

    study: StudyId | None
    drafts: tuple[Draft, ...]
    links: tuple[SeqLink, ...] = ()
    under: StudyId | None = None
    """Nothing is written, and nothing comes back, unless the newest decision on record about this
    study is an approval: a person's revocation may be committed first."""
    approved_seq: int = -1
    """That approval's sequence number: no other one will do, it may name other terms."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Record that the own log told two histories: the last entry that it takes."""

    study: None
    form: str
    proof: bytes


@dataclass(frozen=True, slots=True)
class Mandate:
    """The approval in whose name a study writes: the entry with this sequence number."""

    study: StudyId
    approved_seq: int

    def append(self, *drafts: Draft, links: tuple[SeqLink, ...] = ()) -> Append:
        """An `Append` that comes to nothing once this approval is not the newest decision."""
        return Append(self.study, drafts, links, under=self.study, approved_seq=self.approved_seq)


@dataclass(frozen=True, slots=True)
class Offer:
    """Sign a message and see that the addressed sites get it (`sites` None: every member).

    A later offer under the same key replaces the earlier one. The driver puts small payloads
    inline: the core never holds a model's bytes."""

    study: StudyId | None
    key: str
    message: Message
    sites: frozenset[SiteId] | None
    expires_s: float


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop offering what was offered under this key."""

    study: StudyId | None
    key: str


@dataclass(frozen=True, slots=True)
class KeepProposal:
    """Store a manifest that came from a peer, and its initial model if it came along."""

    study: StudyId
    manifest: Manifest
    proposer: SiteId
    initial: bytes


@dataclass(frozen=True, slots=True)
class HeadHeard:
    """A signed head of another site's log was heard: its witness compares and keeps it."""

    study: None
    log_id: bytes
    note: bytes
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class FetchModel:
    """Have a model on disk that some of these sites hold; `ModelReady` comes back."""

    study: StudyId
    model: ModelHash
    parameters: int
    sites: tuple[SiteId, ...]


@dataclass(frozen=True, slots=True)
class OpenTraining:
    """Start the study's training process on a registered dataset.

    code: which text of a researcher was approved here, with which packages; None: a shipped plan.
    """

    study: StudyId
    manifest: Manifest
    dataset: DatasetId
    denominator: int
    code: kinds.CodeApproved | None = None


@dataclass(frozen=True, slots=True)
class CloseTraining:
    """End the study's training process. With `now`, kill it at once."""

    study: StudyId
    now: bool


@dataclass(frozen=True, slots=True)
class Train:
    """Start one round of local training from a model."""

    study: StudyId
    round: Round
    base: ModelHash
    parameters: int
    arguments: tuple[tuple[str, str], ...] = ()
    """What differs from the manifest by steering: name, number as text."""


@dataclass(frozen=True, slots=True)
class Obtain:
    """Store a neighbour's update, from the inline bytes or by fetching it, and check it."""

    study: StudyId
    round: Round
    sender: SiteId
    model: ModelHash
    size_bytes: int
    parameters: int
    inline: bytes
    value_max: float = 0.0
    """No value may be larger; 0: any finite one may come."""
    encoding: Encoding = "float32"
    """How its values have to be written."""


@dataclass(frozen=True, slots=True)
class Input:
    """One neighbour's update as averaging sees it."""

    site: SiteId
    model: ModelHash
    weight_u: int


@dataclass(frozen=True, slots=True)
class Average:
    """Start robust averaging around the own model."""

    study: StudyId
    round: Round
    rule: str
    rule_parameters: tuple[tuple[str, str], ...]
    own: ModelHash
    inputs: tuple[Input, ...]
    parameters: int
    guard_base: ModelHash | None = None
    """Take only so much of the step that the own hold-out finds it no worse than this model; None:
    no guard."""


@dataclass(frozen=True, slots=True)
class Score:
    """Evaluate a model on the own hold-out, for the people of this site only."""

    study: StudyId
    round: Round
    model: ModelHash


@dataclass(frozen=True, slots=True)
class ReleaseModel:
    """Put the final model, with named tensors, where the researcher finds it."""

    study: StudyId
    model: ModelHash


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Deliver `TimerFired(key)` at `at_s`; a later timer under the same key replaces it."""

    study: StudyId | None
    key: TimerKey
    at_s: float


@dataclass(frozen=True, slots=True)
class Show:
    """Tell the people of this site what is going on."""

    study: StudyId | None
    notice: "Notice"


@dataclass(frozen=True, slots=True)
class RoundDone:
    """One line of progress."""

    round: Round
    rounds: int
    phase: str
    loss: float
    auc: float | None
    accuracy: float
    heard: int
    expected: int
    eps_total_u: int
    cap_u: int
    phases_s: "PhaseTimes"
    measures: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseTimes:
    """Where a round's time went, in seconds."""

    train: float
    record: float
    gather: float
    average: float
    close: float

    @property
    def total(self) -> float:
        """The whole round."""
        return self.train + self.record + self.gather + self.average + self.close


@dataclass(frozen=True, slots=True)
class Waiting:
    """The study cannot go on, and what it waits for."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Happened:
    """A decision or an incident worth a line; `fields` never name patients or files."""

    name: str
    sentence: str
    fields: tuple[tuple[str, str], ...]


Notice = RoundDone | Waiting | Happened

StudyJob = OpenTraining | Train | Score | ReleaseModel | Obtain | FetchModel | Average
"""Long effects: they only start here, and end in an event."""

Effect = (
    Append
    | Freeze
    | Offer
    | Withdraw
    | KeepProposal
    | HeadHeard
    | FetchModel
    | OpenTraining
    | CloseTraining
    | Train
    | Obtain
    | Average
    | Score
    | ReleaseModel
    | SetTimer
    | Show
)
