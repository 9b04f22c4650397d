"""Records about the work of a study's rounds: training, updates, averages, the final model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Self

from ledger.provenance.fields import (
    INPUTS_MAX,
    Bytes,
    Code,
    CodeTable,
    Count,
    Decimals,
    Digest,
    FieldError,
    Key,
    Many,
    Micro,
    OneOf,
    Part,
    Round,
    Seq,
    SeqOrNone,
    Steps,
    check_fields,
    pack_fields,
    unpack_fields,
)
from ledger.provenance.terms import AggInput, DpTerms, InputRef, Kind

LEVELS: Final = ("A", "B", "C", "D")
"""Of confinement, the best first; docs/confinement.md describes them."""


@dataclass(frozen=True, slots=True)
class TrainDone(Kind):
    """A round of local training ended: its privacy is spent, released or not.

    eps_u: this study's ε so far; eps_total_u: the dataset's after it. In the body both stand
    inside `dp`. steps: gradient steps that were made where the study boxes local work in time; 0,
    and absent from the body, where it does not: then there were as many as planned. level: how well
    this machine confined the process that trained, A being the best, D not at all; "", and absent,
    where an earlier version or a simulation did not say."""

    KIND: ClassVar[str] = "train.done"
    study: Digest
    round: Round
    ds: Digest
    fp_commit: Digest
    code_hash: Digest
    env_hash: Digest
    hp: Digest
    base_model: Digest
    out_hash: Digest
    dp: DpTerms
    eps_u: Micro
    eps_total_u: Micro
    steps: Steps = 0
    level: Annotated[str, OneOf(("", *LEVELS))] = ""

    def body(self) -> dict[str, Any]:
        packed = pack_fields(self)
        for key in ("steps", "level"):
            if not packed[key]:
                del packed[key]
        packed["dp"] |= {"eps_u": packed.pop("eps_u"), "eps_total_u": packed.pop("eps_total_u")}
        return packed

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        spent = body.get("dp")
        if not isinstance(spent, Mapping) or not {"eps_u", "eps_total_u"} <= set(spent):
            raise FieldError("dp", "a map with eps_u and eps_total_u", spent)
        if "eps_u" in body or "eps_total_u" in body:
            raise FieldError("body", "eps_u and eps_total_u inside dp alone", sorted(body))
        terms = {key: spent[key] for key in spent if key not in ("eps_u", "eps_total_u")}
        if body.get("steps") == 0:
            raise FieldError("steps", "at least 1, or no such key", 0)
        if body.get("level") == "":
            raise FieldError("level", "one of " + ", ".join(LEVELS) + ", or no such key", "")
        flat = {"steps": 0, "level": "", **body, "dp": terms}
        flat |= {"eps_u": spent["eps_u"], "eps_total_u": spent["eps_total_u"]}
        record: Self = unpack_fields(cls, flat)
        return record


@dataclass(frozen=True, slots=True)
class PrivacySpent(Kind):
    """ε paid for something else than training: statistics, metrics, evaluation."""

    KIND: ClassVar[str] = "privacy.spent"
    study: Digest
    ds: Digest
    purpose: Code
    dp: DpTerms
    eps_total_u: Micro


@dataclass(frozen=True, slots=True)
class UpdatePublished(Kind):
    """An own model left this site. train_seq −1: a consensus round, nothing was trained."""

    KIND: ClassVar[str] = "update.published"
    study: Digest
    round: Round
    hash: Digest
    size: Count
    train_seq: SeqOrNone


@dataclass(frozen=True, slots=True)
class UpdateReceived(Kind):
    """A neighbour's model arrived. from_leaf and from_head tie our order to its log's."""

    KIND: ClassVar[str] = "update.received"
    study: Digest
    round: Round
    sender: Annotated[bytes, Bytes(32), Key("from")]
    from_seq: Seq
    from_leaf: Digest
    from_head: Digest
    hash: Digest
    verdict: Annotated[str, OneOf(("accepted", "rejected", "late"))]
    reason: Code


STALENESS = "staleness"
"""Among an average's parameters: how many rounds old an input may be. Its weight says it all to
whoever repeats the average; an audit compares the ages."""


@dataclass(frozen=True, slots=True)
class AggDone(Kind):
    """A round's robust average around the own model. Own weight: 1 − the sum of the others'.

    own.seq −1: this site published nothing in the round (it joins by adopting its neighbours'
    average). verdicts: per input, in the same order."""

    KIND: ClassVar[str] = "agg.done"
    study: Digest
    round: Round
    own: InputRef
    inputs: Annotated[tuple[AggInput, ...], Many(Part(AggInput), INPUTS_MAX)]
    rule: Code
    rule_params: CodeTable
    verdicts: Annotated[tuple[str, ...], Many(OneOf(("kept", "clipped", "dropped")), INPUTS_MAX)]
    env_hash: Digest
    out_hash: Digest

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.verdicts) != len(self.inputs):
            raise FieldError("verdicts", f"{len(self.inputs)}, one per input", self.verdicts)


@dataclass(frozen=True, slots=True)
class RoundSkipped(Kind):
    """A round went by without an average here."""

    KIND: ClassVar[str] = "round.skipped"
    study: Digest
    round: Round
    reason: Code


@dataclass(frozen=True, slots=True)
class ModelKept(Kind):
    """The average of this round was better on the own hold-out than every one before: it is what
    this site releases unless a later one is better still. The scores stay at the site.

    distance, inputs: as `model.released` will repeat them."""

    KIND: ClassVar[str] = "model.kept"
    study: Digest
    round: Round
    hash: Digest
    distance: Decimals
    inputs: Count


@dataclass(frozen=True, slots=True)
class ModelReleased(Kind):
    """The model that this site stays with: of the last round, or of the one that was kept; with the
    distance (relative) of that round's inputs and their number."""

    KIND: ClassVar[str] = "model.released"
    study: Digest
    round: Round
    hash: Digest
    distance: Decimals
    inputs: Count
