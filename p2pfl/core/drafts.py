"""The ledger entries that a running study writes, made from plain values."""

import hashlib
from dataclasses import dataclass

from ledger.log import Draft, Value, encode
from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import DatasetHistory, Published, StudyHistory
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId

NODE_ACTOR = "node"
NOT_PUBLISHED = -1
"""Stands for "no entry": a consensus round has no training, a catch-up no own update."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the training process said it runs: recorded with each training."""

    code_hash: bytes
    env_hash: bytes


def arguments_hash(manifest: Manifest) -> bytes:
    """SHA-256 over the plan's name and arguments: what `hp` in `train.done` stands for."""
    arguments: Value = {name: str(value) for name, value in sorted(manifest.plan.arguments.items())}
    return hashlib.sha256(encode({"plan": manifest.plan.name, "arguments": arguments})).digest()


def training_entries(
    manifest: Manifest,
    past: StudyHistory,
    dataset: DatasetHistory,
    environment: Environment,
    base: ModelHash,
    event: ev.Trained,
) -> fx.Append:
    """`train.done` with the privacy spent, and the release it covers: one commit."""
    approval = past.approval
    assert approval is not None, "training needs an approval"
    done = past.trainings + 1
    train = kinds.TrainDone(
        study=manifest.study_id,
        round=event.round,
        ds=dataset.terms.ds,
        fp_commit=dataset.terms.fp_commit,
        code_hash=environment.code_hash,
        env_hash=environment.env_hash,
        hp=arguments_hash(manifest),
        base_model=base,
        out_hash=event.model,
        dp=approval.dp,
        eps_u=(approval.eps_study_u or approval.eps_table_u)[done],
        eps_total_u=approval.eps_table_u[done],
    )
    published = kinds.UpdatePublished(
        manifest.study_id, event.round, event.model, event.size_bytes, NOT_PUBLISHED
    )
    pair = (train.draft(NODE_ACTOR), published.draft(NODE_ACTOR))
    return fx.Append(manifest.study_id, pair, (fx.SeqLink(draft=1, field="train_seq", names=0),))


def consensus_draft(study: StudyId, round_: Round, model: ModelHash, size_bytes: int) -> Draft:
    """The release of a model that was mixed but not trained in this round."""
    published = kinds.UpdatePublished(study, round_, model, size_bytes, NOT_PUBLISHED)
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
    log_ids: dict[bytes, bytes],
    own: Published | None,
    skipped: range,
    event: ev.Averaged,
) -> tuple[Draft, ...]:
    """Rounds skipped by a catch-up, every input's verdict, and the averaging itself."""
    passed = [
        kinds.RoundSkipped(effect.study, round_, "catch-up").draft(NODE_ACTOR) for round_ in skipped
    ]
    received = [received_draft(effect.study, heard, "accepted", "") for heard in used]
    inputs = tuple(
        kinds.AggInput(
            site=heard.sender,
            log_id=log_ids[heard.sender],
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
        rule_params=dict(effect.rule_parameters),
        verdicts=event.verdicts,
        env_hash=event.env_hash,
        out_hash=event.model,
    )
    return (*passed, *received, done.draft(NODE_ACTOR))


def ending_drafts(
    study: StudyId, round_: Round, model: ModelHash, distance: float, inputs: int
) -> tuple[Draft, Draft]:
    """The release of the final model and the close that returns unused budget."""
    released = kinds.ModelReleased(study, round_, model, f"{distance:.6g}", inputs)
    closed = kinds.StudyClosed(study, "complete", round_ + 1)
    return released.draft(NODE_ACTOR), closed.draft(NODE_ACTOR)


def leaving_draft(study: StudyId, reason: str, rounds: int) -> Draft:
    """This site leaves the study before its end."""
    return kinds.StudyClosed(study, reason, rounds).draft(NODE_ACTOR)


def is_as_approved(terms: kinds.DpTerms, spending: ev.Spending) -> bool:
    """Whether a training step kept to the privacy terms that were approved.

    Decimals are compared as numbers: "9.10" and "9.1" promise the same."""
    if terms.mech == "none" or spending.mech != terms.mech:
        return terms.mech == spending.mech
    pairs = ((terms.sigma, spending.sigma), (terms.q, spending.q), (terms.clip, spending.clip))
    return terms.steps == spending.steps and all(float(a) == float(b) for a, b in pairs)
