"""Records about datasets and about what a site's people decided on studies."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ledger.provenance.fields import (
    INT_MAX,
    TABLE_MAX,
    Code,
    CodeTable,
    Count,
    Decimals,
    Digest,
    FieldError,
    Integer,
    Many,
    Micro,
    OneOf,
    Round,
    Seq,
    SeqOrNone,
    check_fields,
    decimal_of,
)
from ledger.provenance.terms import DpTerms, Kind


@dataclass(frozen=True, slots=True)
class DatasetRegistered(Kind):
    """A dataset is ready for studies, under one cap of ε (micro-units) and one δ for good."""

    KIND: ClassVar[str] = "dataset.registered"
    ds: Digest
    fp_commit: Digest
    patients_bucket: Count
    schema_hash: Digest
    legal_basis: Code
    dpia: Code
    cap_u: Micro
    delta: Decimals

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < decimal_of(self.delta) < 1:
            raise FieldError("delta", "a number in (0, 1)", self.delta)


@dataclass(frozen=True, slots=True)
class DatasetRevoked(Kind):
    """No training may use this dataset any more."""

    KIND: ClassVar[str] = "dataset.revoked"
    ds: Digest
    reason: Code


@dataclass(frozen=True, slots=True)
class StudyProposed(Kind):
    """A manifest reached this site."""

    KIND: ClassVar[str] = "study.proposed"
    study: Digest
    proposer: Digest


@dataclass(frozen=True, slots=True)
class StudyApproved(Kind):
    """A data owner lets a study train on a dataset, within these terms.

    eps_table_u[k]: the dataset's whole ε, reservations of other studies included, after k private
    rounds of this study under this approval. Its length is the planned private rounds + 1.
    eps_study_u[k]: ε of this study alone after k rounds; empty where the dataset had no history,
    because both tables are then the same."""

    KIND: ClassVar[str] = "study.approved"
    study: Digest
    role: Code
    meaning: Code
    approver_commit: Digest
    ds: Digest
    expires_us: Count
    dp: DpTerms
    eps_table_u: Annotated[tuple[int, ...], Many(Integer(0, INT_MAX), TABLE_MAX)]
    eps_study_u: Annotated[tuple[int, ...], Many(Integer(0, INT_MAX), TABLE_MAX)] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.eps_study_u and len(self.eps_study_u) != len(self.eps_table_u):
            raise FieldError("eps_study_u", "as many values as eps_table_u", self.eps_study_u)
        if list(self.eps_table_u) != sorted(self.eps_table_u) or not self.eps_table_u:
            raise FieldError("eps_table_u", "at least one value, none falling", self.eps_table_u)


@dataclass(frozen=True, slots=True)
class CodeApproved(Kind):
    """The approval before it is of code that a researcher wrote; recorded in the same commit.

    text: SHA-256 of the plan's text, which every training's code_hash repeats. kept_by: who keeps
    the privacy terms: the node, the approved code itself, or nobody, where there are none.
    versions: the third-party packages it imports, as they were installed here. level: how well
    this machine confined such code then, A being the best; D is refused."""

    KIND: ClassVar[str] = "code.approved"
    study: Digest
    text: Digest
    kept_by: Annotated[str, OneOf(("node", "code", "nobody"))]
    level: Annotated[str, OneOf(("A", "B", "C", "D"))]
    versions: CodeTable


@dataclass(frozen=True, slots=True)
class ModelAdopted(Kind):
    """A study builds on a model that another study released; recorded with the approval.

    use: what it is taken for. hash: as in that study's `model.released`, which is entry of_seq in
    the log of of_site."""

    KIND: ClassVar[str] = "model.adopted"
    study: Digest
    use: Annotated[str, OneOf(("start", "evaluate", "standardise"))]
    hash: Digest
    of_study: Digest
    of_site: Digest
    of_seq: Seq


@dataclass(frozen=True, slots=True)
class StudyRefused(Kind):
    """A data owner, or the site's policy, said no."""

    KIND: ClassVar[str] = "study.refused"
    study: Digest
    reason: Code


@dataclass(frozen=True, slots=True)
class StudyRevoked(Kind):
    """An approval was taken back."""

    KIND: ClassVar[str] = "study.revoked"
    study: Digest
    reason: Code


@dataclass(frozen=True, slots=True)
class StudyClosed(Kind):
    """The study ended here; what it had reserved and not spent is free again."""

    KIND: ClassVar[str] = "study.closed"
    study: Digest
    reason: Code
    rounds: Round


@dataclass(frozen=True, slots=True)
class CourseWord(Kind):
    """What a proposer says of its study's course, from a round on; each kind says what.

    from_seq: the proposer's entry that says so, −1 where this is that entry."""

    study: Digest
    round: Round
    reason: Code
    from_seq: SeqOrNone


@dataclass(frozen=True, slots=True)
class StudyPaused(CourseWord):
    """The proposer paused the study: no training of this round or a later one, until it resumes."""

    KIND: ClassVar[str] = "study.paused"


@dataclass(frozen=True, slots=True)
class StudyResumed(CourseWord):
    """The proposer lets the study go on. round: the one that this site was in."""

    KIND: ClassVar[str] = "study.resumed"


@dataclass(frozen=True, slots=True)
class StudyStopped(CourseWord):
    """The proposer ended the study early: no training of this round or a later one, for good."""

    KIND: ClassVar[str] = "study.stopped"


@dataclass(frozen=True, slots=True)
class StudyAway(Kind):
    """This site takes no part for a while; its approval stays. Nothing leaves until it is back."""

    KIND: ClassVar[str] = "study.away"
    study: Digest
    reason: Code


@dataclass(frozen=True, slots=True)
class StudyBack(Kind):
    """This site takes part again, under the approval it had."""

    KIND: ClassVar[str] = "study.back"
    study: Digest


@dataclass(frozen=True, slots=True)
class StudySteered(Kind):
    """The proposer changed training arguments inside the approved ranges, from a round on.

    changes: every argument that differs from the manifest from then on. message: SHA-256 over
    study and changes. from_seq: the proposer's entry that says so, −1 where this is that entry."""

    KIND: ClassVar[str] = "study.steered"
    study: Digest
    round: Round
    message: Digest
    changes: CodeTable
    from_seq: SeqOrNone
