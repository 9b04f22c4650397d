"""One averaging under way: what is asked for, and what goes on record when it has ended."""

from dataclasses import dataclass

from gossip.identifiers import SiteId
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core import drafts
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import StudyHistory
from p2pfl.core.inbox import Heard
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.participants import Neighbourhood, rule_parameters, weights_u

CATCH_UP_WEIGHT_U = 999_000
"""The neighbours' share of a catch-up; the own model is old and gets what is left."""


@dataclass(frozen=True, slots=True)
class Mixing:
    """An averaging that was asked for, with the updates it uses and the rounds it passes over."""

    effect: fx.Average
    used: tuple[Heard, ...]
    skipped: range

    def drafts(self, past: StudyHistory, event: ev.Averaged) -> tuple[Draft, ...]:
        """Rounds passed over, every input that is not on record yet, and the averaging itself."""
        published = past.published.get(self.effect.round)
        is_own = published is not None and published.model == self.effect.own
        new = tuple(h for h in self.used if (h.round, h.sender) not in past.received)
        return drafts.averaging_drafts(
            self.effect,
            self.used,
            new,
            published if is_own else None,
            self.skipped,
            event,
        )


def round_mixing(
    manifest: Manifest,
    hood: Neighbourhood,
    me: SiteId,
    round_: Round,
    base: ModelHash,
    own: ModelHash,
    ready: dict[SiteId, Heard],
) -> Mixing:
    """The averaging of a round around the own update. base: what the round began from.

    What an older update loses of its weight goes to the own one."""
    weights = weights_u(hood, me, tuple(ready))
    # A newer update that stands in is no older than the own one: it has its full weight.
    weights = {s: weights[s] // (1 + max(0, round_ - h.round)) for s, h in ready.items()}
    inputs = tuple(fx.Input(s, heard.model, weights[s]) for s, heard in ready.items())
    guard_base = base if manifest.averaging.guard == "holdout" else None
    effect = _effect(manifest, round_, own, inputs, guard_base)
    return Mixing(effect, tuple(ready.values()), range(0))


def catch_up_mixing(
    manifest: Manifest,
    hood: Neighbourhood,
    current: Round,
    target: Round,
    base: ModelHash,
    used: tuple[Heard, ...],
) -> Mixing:
    """The averaging by which a site that fell behind adopts its neighbours' models.

    The own model is old: it hardly counts, and is only the point the rule starts from."""
    total = sum(hood.shares_u[h.sender] for h in used)
    inputs = tuple(
        fx.Input(h.sender, h.model, CATCH_UP_WEIGHT_U * hood.shares_u[h.sender] // total)
        for h in used
    )
    return Mixing(_effect(manifest, target, base, inputs), used, range(current, target))


def repeated(done: kinds.AggDone, parameters: int) -> fx.Average:
    """The averaging that an entry records, once more: a restart forgot its distance."""
    inputs = tuple(fx.Input(SiteId(x.site), ModelHash(x.hash), x.weight_u) for x in done.inputs)
    return fx.Average(
        StudyId(done.study),
        Round(done.round),
        done.rule,
        tuple(sorted(done.rule_params.items())),
        ModelHash(done.own.hash),
        inputs,
        parameters,
    )


def _effect(
    manifest: Manifest,
    round_: Round,
    own: ModelHash,
    inputs: tuple[fx.Input, ...],
    guard_base: ModelHash | None = None,
) -> fx.Average:
    return fx.Average(
        StudyId(manifest.study_id),
        round_,
        manifest.averaging.rule,
        rule_parameters(manifest),
        own,
        inputs,
        manifest.study.parameters,
        guard_base,
    )
