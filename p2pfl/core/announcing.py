"""What a site tells its neighbours of its own updates, all of which are on record by then.

Knows no rounds under way: it looks at the ledger's fold alone, so a site that restarts, or has
finished, still offers what slower neighbours need."""

from collections.abc import Callable, Collection

from gossip.identifiers import SiteId
from gossip.messages import UpdateAnnounced
from p2pfl.core import effects as fx
from p2pfl.core.history import Standing, StudyHistory
from p2pfl.core.inbox import OFFERED_ROUNDS
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId


def update_key(study: StudyId, round_: int) -> str:
    """The key under which a round's update is offered: a later round takes its place."""
    return f"update/{study.hex()}/{round_ % OFFERED_ROUNDS}"


def offers(
    manifest: Manifest,
    past: StudyHistory,
    models: Collection[ModelHash],
    note: bytes,
    sites_at: Callable[[Round], tuple[SiteId, ...]],
) -> list[fx.Effect]:
    """Offer the newest own updates to each round's neighbours, as long as this site takes part.

    models: what is on disk; note: a signed head of the own log that covers every entry."""
    if not (past.standing is Standing.APPROVED or past.is_complete):
        return []
    newest = sorted(past.published)[-OFFERED_ROUNDS:]
    return [
        offer(manifest, past, round_, note, sites_at(round_))
        for round_ in newest
        if past.published[round_].model in models and sites_at(round_)
    ]


def offer(
    manifest: Manifest, past: StudyHistory, round_: Round, note: bytes, sites: tuple[SiteId, ...]
) -> fx.Effect:
    """Offer the own update of one round, which was published."""
    study, own = StudyId(manifest.study_id), past.published[round_]
    trained = past.trained.get(round_) if own.train_seq >= 0 else None
    message = UpdateAnnounced(
        study=study,
        round=round_,
        hash=own.model,
        size=own.size_bytes,
        entry_seq=own.seq,
        entry_leaf=own.leaf,
        head=note,
        inline=b"",
        train_seq=own.train_seq,
        steps=0 if trained is None else trained.steps,
    )
    expires_s = float(manifest.study.expires_s)
    return fx.Offer(study, update_key(study, round_), message, frozenset(sites), expires_s)


def withdrawals(study: StudyId) -> list[fx.Effect]:
    """Stop offering any update of a study."""
    return [fx.Withdraw(study, update_key(study, place)) for place in range(OFFERED_ROUNDS)]
