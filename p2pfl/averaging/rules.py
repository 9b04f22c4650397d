"""The averaging rules: each makes a new own model from the own and the neighbours' models.

Shared by all of them: own is float32[d]; neighbours float32[m, d] (or m models float32[d], memory
maps and packed ones welcome); weights float32[m], the mixing weights, each in (0, 1), sum below 1;
the own weight is what is left to 1. Without neighbours every rule returns the own model. A
neighbour whose model holds NaN or infinity, or has the wrong shape, is refused: the result is the
one without it, and the evidence says so. Each refuses other bad inputs with the errors of
`check_inputs`, and an own model that is not finite with NotFinite. Same inputs, same bits, whatever
the number of threads.
byzantine: declared share of the neighbours that may be hostile, 0…0.49. Declared, because one
estimated from this round's distances would be the attacker's to choose.
They must not know sites, rounds or where models come from.
"""

from collections.abc import Callable, Mapping
from functools import partial

from p2pfl.averaging import decisions
from p2pfl.averaging.decisions import count_of
from p2pfl.averaging.evidence import Averaged
from p2pfl.averaging.inputs import Neighbours, Vector
from p2pfl.averaging.packed import Model
from p2pfl.averaging.running import ByCoordinate, ByDistance, ByProducts, Method, run, run_mixed

BYZANTINE = 0.2
"""Default of the declared share."""
STEPS = 8
"""Weiszfeld steps of gm_clip: enough for a centre; where it lies exactly hardly matters there."""
QUANTILE = 0.5
"""Part of the weight that gm_clip's radius leaves unclipped."""
STEPS_CONVERGED = 64
"""Weiszfeld steps of geometric_median, where the centre is the result; they cost almost nothing."""
CLIPPING_STEPS = 3


def gossip(own: Model, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Weighted mean of the own and all neighbours' models: the baseline without any defence.

    x + Σ w_j z_j with z_j = x_j − x. One attacker can put the result anywhere.

    >>> import numpy as np
    >>> one = np.ones(2, dtype=np.float32)
    >>> gossip(one, np.stack([3 * one]), np.array([0.5], dtype=np.float32)).value
    array([2., 2.], dtype=float32)
    """
    return run(ByDistance(decisions.gossip), own, neighbours, weights)


def cs_plus(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """Clip each neighbour's difference to the largest one left after removing the top 2b weight.

    b is the declared share of the neighbours' weight, so the clipping radius τ is the
    (1 − 2·byzantine) weighted quantile of the distances. A positive share removes at least the
    farthest of several neighbours. Source: Gaucher et al., ICML 2025, arXiv:2410.10418, CS+.
    """
    decide = partial(decisions.cs_plus, byzantine=byzantine)
    return run(ByDistance(decide), own, neighbours, weights)


def cs_redescending(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """cs_plus that ignores what lies beyond three clipping radii; for sparse graphs.

    Factor 1 up to τ, τ/‖z‖ up to 3τ, 0 beyond.
    """
    decide = partial(decisions.cs_redescending, byzantine=byzantine)
    return run(ByDistance(decide), own, neighbours, weights)


def clipped_gossip(
    own: Model,
    neighbours: Neighbours,
    weights: Vector,
    *,
    byzantine: float = BYZANTINE,
    radius: float = 0.0,
) -> Averaged:
    """Clip each neighbour's difference to a radius that balances variance against attack.

    radius: τ in units of the parameters; 0: τ² = Σ w_j ‖z_j‖² / b over the nearest neighbours that
    hold 1 − byzantine of the weight, b the weight of the rest. The published τ takes that sum over
    the honest neighbours, which nobody knows. Source: He et al. 2022, arXiv:2202.01545.
    """
    decide = partial(decisions.clipped_gossip, byzantine=byzantine, radius=radius)
    return run(ByDistance(decide), own, neighbours, weights)


def nna(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """Mean of the N − f models nearest to the own one, itself included.

    f = ⌊byzantine·m⌋, at least 1 if byzantine is positive, at most ⌊m/2⌋; the mixing weights count
    among those that are left. Weak against attackers that adapt.
    Source: Farhadkhani et al., ICML 2023, MoNNA.
    """
    decide = partial(decisions.nna, byzantine=byzantine)
    return run(ByDistance(decide), own, neighbours, weights)


def gm_clip(
    own: Model,
    neighbours: Neighbours,
    weights: Vector,
    *,
    steps: int = STEPS,
    quantile: float = QUANTILE,
) -> Averaged:
    """Clip all models around the neighbourhood's geometric median, at the median distance.

    c = weighted geometric median of own and neighbours (`steps` smoothed Weiszfeld steps);
    r_j = ‖x_j − c‖; τ = weighted median of r (own included);
    x ← c + Σ_j w_j min(1, τ/r_j) (x_j − c), own included. No number of attackers is needed.

    τ is the weighted median, not the plain one: centre and radius then fail together, and only
    when half of the mixing weight is hostile. A plain median could be moved by many admitted
    sites that hold little weight. quantile: a lower one than the median clips more: see the
    measured tables of docs/averaging.md.
    """
    decide = partial(decisions.gm_clip, steps=steps, quantile=quantile)
    return run(ByProducts(decide), own, neighbours, weights)


def geometric_median(
    own: Model, neighbours: Neighbours, weights: Vector, *, steps: int = STEPS_CONVERGED
) -> Averaged:
    """The point with the least weighted sum of distances to own and neighbours' models.

    steps: smoothed Weiszfeld steps. A neighbour's factor is its coefficient in the result over
    its mixing weight, at most 1. Source: Pillutla et al. 2022 (RFA).
    """
    decide = partial(decisions.geometric_median, steps=steps)
    return run(ByProducts(decide), own, neighbours, weights)


def centered_clipping(
    own: Model,
    neighbours: Neighbours,
    weights: Vector,
    *,
    byzantine: float = BYZANTINE,
    radius: float = 0.0,
    steps: int = CLIPPING_STEPS,
) -> Averaged:
    """From the own model, move `steps` times by the mean of the clipped differences of everyone.

    v ← v + Σ_j w_j min(1, τ/‖x_j − v‖) (x_j − v). radius: τ in units of the parameters; 0: in each
    step the radius that cs_plus would take around v. Source: Karimireddy et al. 2021.
    """
    decide = partial(decisions.centered_clipping, byzantine=byzantine, radius=radius, steps=steps)
    return run(ByProducts(decide), own, neighbours, weights)


def krum(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """The one model whose N − f − 1 nearest others are nearest; f as for nna, weights ignored.

    Throws away what all others learnt: for comparison. Source: Blanchard et al. 2017, with one
    neighbour more than they take, as byzfl does.
    """
    decide = partial(decisions.krum, byzantine=byzantine)
    return run(ByProducts(decide), own, neighbours, weights)


def multi_krum(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """Mean of the N − f models that krum finds best; the mixing weights count among them."""
    decide = partial(decisions.multi_krum, byzantine=byzantine)
    return run(ByProducts(decide), own, neighbours, weights)


def trimmed_mean(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """Average each coordinate after dropping its f lowest and f highest values.

    f as for nna. f counts sites, whatever their weight, so one big site cannot stay in by its
    size; the mixing weights count among the values that are left. A neighbour's factor is the
    share of its coordinates that were kept. Source: Yin et al. 2018, trimmed mean.
    """
    return run(_trimming(byzantine), own, neighbours, weights)


def median(own: Model, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Plain median of each coordinate; every site heard counts once, weights do not matter.

    Unweighted on purpose: a site's weight comes from what it says of itself. With an even number
    of models it is the mean of the two middle ones. Source: Yin et al. 2018, median.
    """
    return run(MEDIAN, own, neighbours, weights)


def mean(own: Model, neighbours: Neighbours, weights: Vector) -> Averaged:
    """Plain mean of each coordinate; every site heard counts once, weights do not matter.

    No defence: one attacker can put the result anywhere, unless the study bounds what it accepts.
    For sums that have to be exact: values are sorted before they are added, so sites that heard
    the same models get the same bits, whoever they are.
    """
    return run(MEAN, own, neighbours, weights)


def nnm(
    own: Model, neighbours: Neighbours, weights: Vector, *, byzantine: float = BYZANTINE
) -> Averaged:
    """Nearest-neighbour mixing, then the trimmed mean: each model first becomes the mean of its
    N − f nearest ones, f as for nna.

    Mixing alone rejects nobody; the trimmed mean is what its authors put after it. Any other rule
    comes after it as `nnm+RULE`. Source: Allouah et al., AISTATS 2023.
    """
    return run_mixed(_trimming(byzantine), byzantine, own, neighbours, weights)


def _trimming(byzantine: float) -> ByCoordinate:
    return ByCoordinate(partial(count_of, byzantine), is_weighted=True)


MEAN = ByCoordinate(lambda m: 0, is_weighted=False)
MEDIAN = ByCoordinate(lambda m: m // 2, is_weighted=False)
"""⌊m/2⌋ = ⌊(N − 1)/2⌋ values go at each end."""

_BY_DISTANCE = frozenset({"gossip", "cs_plus", "cs_redescending", "clipped_gossip", "nna"})


def after_mixing(name: str, needs_share: bool) -> Callable[..., Averaged]:
    """The rule `nnm+name`: like the rule of that name, on nearest-neighbour means of the models.

    needs_share: whether the rule itself takes `byzantine`, which the mixing always does. Evidence:
    distances from the own model, and what each model itself still has in the result.
    """

    def rule(
        own: Model,
        neighbours: Neighbours,
        weights: Vector,
        *,
        byzantine: float = BYZANTINE,
        **parameters: float,
    ) -> Averaged:
        if needs_share:
            parameters["byzantine"] = byzantine
        method = _method(name, parameters)
        return run_mixed(method, byzantine, own, neighbours, weights)

    rule.__name__ = f"nnm+{name}"
    return rule


def _method(name: str, parameters: Mapping[str, float]) -> Method:
    if name == "median":
        return MEDIAN
    if name == "mean":
        return MEAN
    if name == "trimmed_mean":
        return _trimming(**parameters)
    decide = partial(getattr(decisions, name), **parameters)
    return ByDistance(decide) if name in _BY_DISTANCE else ByProducts(decide)
