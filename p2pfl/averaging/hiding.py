"""How much room privacy noise leaves for a liar: one number, and what it means.

Honest updates that carry independent noise of deviation σ per parameter differ by about σ√(2d).
Whatever lies within that distance cannot be told from noise, by any rule.
"""

from math import sqrt

_CRUDE_ONLY = 0.7
_MOSTLY_SIGNAL = 0.3


def noise_distance(deviation: float, parameters: int) -> float:
    """σ√(2d): how far noise alone puts two honest updates apart. deviation: σ, per parameter.

    >>> noise_distance(0.5, 32)
    4.0
    """
    return deviation * sqrt(2.0 * parameters)


def update_deviation(gradient_deviation: float, rate: float, momentum: float, steps: int) -> float:
    """Deviation per parameter of an update after a round's private steps.

    Each step's noise stays in the velocity and moves the model again: noise of step s counts
    1 + μ + … + μ^(steps−s) times. What earlier rounds left in the velocity is not counted.

    >>> update_deviation(1.0, 0.5, 0.0, 4)
    1.0
    """
    reach = [sum(momentum**k for k in range(left)) for left in range(1, steps + 1)]
    return rate * gradient_deviation * sqrt(sum(times**2 for times in reach))


def noise_share(deviation: float, parameters: int, median_distance: float) -> float:
    """R = σ√(2d) / median distance of the neighbours' updates, at most 1; 1 if they all agree."""
    if median_distance <= 0.0:
        return 1.0
    return min(1.0, noise_distance(deviation, parameters) / median_distance)


def noise_share_words(share: float) -> str:
    """What R means, for people.

    >>> noise_share_words(0.95)
    'R = 0.95: nearly all of the distance between updates is noise; the rule withstands crude \
attacks only, a liar that stays within the noise is not seen'
    """
    if share >= _CRUDE_ONLY:
        meaning = (
            "nearly all of the distance between updates is noise; the rule withstands crude "
            "attacks only, a liar that stays within the noise is not seen"
        )
    elif share >= _MOSTLY_SIGNAL:
        meaning = "much of the distance between updates is noise; a careful liar can hide in it"
    else:
        meaning = "noise hardly hides anyone; what the rule withstands is what its graph allows"
    return f"R = {share:.2f}: {meaning}"
