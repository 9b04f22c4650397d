"""The ledger entries that a running study writes, made from plain values."""

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from ledger.log import Draft, Value, encode
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.history import DatasetHistory, Published, StudyHistory
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId

NODE_ACTOR = "node"
NOT_PUBLISHED = -1
"""Stands for "no entry": a consensus round has no training, a catch-up no own update."""
GUARD_STEP = "guard_step"
"""Among an average's parameters: how much of the step the hold-out guard took, 0 to 1."""
ARGUMENTS_KEPT = 64
"""Plans with their arguments, hashed once: a study needs them in every round."""
DISTANCE_MAX = 1e99
"""Stands for a distance that is unknown or not finite."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the training process said it runs, and how it is confined: recorded with each
    training."""

    code_hash: bytes
    env_hash: bytes
    level: str = ""


def arguments_hash(manifest: Manifest, steered: tuple[tuple[str, str], ...]) -> bytes:
    """SHA-256 over the plan's name and arguments: what `hp` in `train.done` stands for.

    steered: what differs from the manifest in the round."""
    written = tuple((name, str(value)) for name, value in manifest.plan.arguments.items())
    return _arguments_hash(manifest.plan.name, written + steered)


@lru_cache(ARGUMENTS_KEPT)
def _arguments_hash(plan: str, written: tuple[tuple[str, str], ...]) -> bytes:
    arguments: Value = dict(sorted(dict(written).items()))
    return hashlib.sha256(encode({"plan": plan, "arguments": arguments})).digest()


def training_entries(
    manifest: Manifest,
    past: StudyHistory,
    dataset: DatasetHistory,
    environment: Environment,
    base: ModelHash,
    event: ev.Trained,
    mandate: fx.Mandate,
    steered: tuple[tuple[str, str], ...],
) -> fx.Append:
    """`train.done` with the privacy spent, and the release it covers: one commit."""
    approval = past.approval
    assert approval is not None, "training needs an approval"
    # Without privacy a table says nothing; it may be shorter than the study.
    done = min(past.trainings + 1, len(approval.eps_table_u) - 1)
    train = kinds.TrainDone(
        study=manifest.study_id,
        round=event.round,
        ds=dataset.terms.ds,
        fp_commit=dataset.terms.fp_commit,
        code_hash=environment.code_hash,
        env_hash=environment.env_hash,
        hp=arguments_hash(manifest, steered),
        base_model=base,
        out_hash=event.model,
        dp=approval.dp,
        eps_u=(approval.eps_study_u or approval.eps_table_u)[done],
        eps_total_u=approval.eps_table_u[done],
        steps=event.spending.steps if manifest.study.work_limit_s else 0,
        level=environment.level,
    )
    published = kinds.UpdatePublished(
        manifest.study_id, event.round, event.model, event.size_bytes, NOT_PUBLISHED
    )
    pair = (train.draft(NODE_ACTOR), published.draft(NODE_ACTOR))
    link = fx.SeqLink(draft=1, field="train_seq", names=0)
    return mandate.append(*pair, links=(link,))


def consensus_draft(manifest: Manifest, round_: Round, model: ModelHash) -> Draft:
    """The release of a model that was mixed but not trained in this round."""
    size_bytes = blob_size_bytes(manifest.study.parameters)
    published = kinds.UpdatePublished(manifest.study_id, round_, model, size_bytes, NOT_PUBLISHED)
    return published.draft(NODE_ACTOR)


def received_draft(study: StudyId, heard: Heard, verdict: str, reason: str) -> Draft:
    """What became of a neighbour's update."""
    return kinds.UpdateReceived(
        study=study,
        round=heard.round,
        sender=heard.sender,
        from_seq=heard.seq,
        from_leaf=heard.leaf,
        from_head=heard.head,
        hash=heard.model,
        verdict=verdict,
        reason=reason,
    ).draft(NODE_ACTOR)


def averaging_drafts(
    effect: fx.Average,
    used: tuple[Heard, ...],
    new: tuple[Heard, ...],
    own: Published | None,
    skipped: range,
    event: ev.Averaged,
) -> tuple[Draft, ...]:
    """Rounds skipped by a catch-up, the verdict of every new input, and the averaging itself.

    An input that a catch-up took in early is on record already, and not `new`."""
    passed = [skipped_draft(effect.study, round_, "catch-up") for round_ in skipped]
    received = [received_draft(effect.study, heard, "accepted", "") for heard in new]
    inputs = tuple(
        kinds.AggInput(
            site=heard.sender,
            log_id=heard.log_id,
            seq=heard.seq,
            hash=heard.model,
            weight_u=given.weight_u,
        )
        for heard, given in zip(used, effect.inputs, strict=True)
    )
    done = kinds.AggDone(
        study=effect.study,
        round=effect.round,
        own=kinds.InputRef(own.seq if own else NOT_PUBLISHED, effect.own),
        inputs=inputs,
        rule=effect.rule,
        rule_params=_parameters(effect, event),
        verdicts=event.verdicts,
        env_hash=event.env_hash,
        out_hash=event.model,
    )
    return (*passed, *received, done.draft(NODE_ACTOR))


def _parameters(effect: fx.Average, event: ev.Averaged) -> dict[str, str]:
    """What a replay needs to get the same model; the guard's step is part of it."""
    guarded = {GUARD_STEP: event.guard_step} if event.guard_step else {}
    return {**dict(effect.rule_parameters), **guarded}


def skipped_draft(study: StudyId, round_: int, reason: str) -> Draft:
    """A round goes by without an average here."""
    return kinds.RoundSkipped(study, round_, reason).draft(NODE_ACTOR)


def kept_draft(
    study: StudyId, round_: Round, model: ModelHash, distance: float, inputs: int
) -> Draft:
    """This average is better on the own hold-out than every one before."""
    return kinds.ModelKept(study, round_, model, decimal(distance), inputs).draft(NODE_ACTOR)


def released_draft(
    study: StudyId, round_: Round, model: ModelHash, distance: float, inputs: int
) -> Draft:
    """The release of the final model. distance: relative; not a number counts as far apart."""
    text = decimal(distance)
    return kinds.ModelReleased(study, round_, model, text, inputs).draft(NODE_ACTOR)


def decimal(value: float) -> str:
    """A number ≥ 0 as the ledger's text.

    >>> decimal(0.25), decimal(1e-300), decimal(float("nan"))
    ('0.25', '0', '1e+99')
    """
    if not math.isfinite(value) or value > DISTANCE_MAX:
        value = DISTANCE_MAX
    return f"{value:.6g}" if value >= 1 / DISTANCE_MAX else "0"


def closed_draft(study: StudyId, reason: str, rounds: int) -> Draft:
    """This site is done with the study: its end, or the reason why it leaves before."""
    return kinds.StudyClosed(study, reason, rounds).draft(NODE_ACTOR)


def is_as_approved(terms: kinds.DpTerms, spending: ev.Spending) -> bool:
    """Whether a training step kept to the privacy terms that were approved.

    Decimals are compared as numbers: "9.10" and "9.1" promise the same. What the training process
    says is not trusted to be a number."""
    if terms.mech == "none" or spending.mech != terms.mech:
        return terms.mech == spending.mech
    pairs = ((terms.sigma, spending.sigma), (terms.q, spending.q), (terms.clip, spending.clip))
    try:
        is_same = all(Decimal(approved) == Decimal(actual) for approved, actual in pairs)
    except InvalidOperation:
        return False
    return is_same and terms.steps == spending.steps
