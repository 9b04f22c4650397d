"""What averaging refuses, one name per rule; every error says what was expected and what came.

Nothing here knows sites or rounds: a neighbour is the index of its row.
"""

from collections.abc import Sequence


class AveragingError(ValueError):
    """Base of every refusal of this package."""


class UnknownRule(AveragingError):
    """No rule of that name is registered."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"no averaging rule {name!r}; known: {', '.join(known)}")


class UnknownParameter(AveragingError):
    """The rule has no parameter of that name."""

    def __init__(self, rule: str, name: str, known: Sequence[str]) -> None:
        self.rule = rule
        self.name = name
        self.known = tuple(known)
        listed = ", ".join(known) or "none"
        super().__init__(f"rule {rule!r} has no parameter {name!r}; it has: {listed}")


class ParameterOutOfRange(AveragingError):
    """A parameter has the wrong type or lies outside its range."""

    def __init__(self, rule: str, name: str, expected: str, actual: object) -> None:
        self.rule = rule
        self.name = name
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"parameter {name!r} of rule {rule!r}: expected {expected}, got {actual!r}"
        )


class WrongType(AveragingError):
    """An input is not a float32 array."""

    def __init__(self, what: str, actual: str) -> None:
        self.what = what
        self.actual = actual
        super().__init__(f"{what}: expected a float32 array, got {actual}")


class WrongShape(AveragingError):
    """An input has another shape than the own model asks for."""

    def __init__(self, what: str, expected: str, actual: tuple[int, ...]) -> None:
        self.what = what
        self.expected = expected
        self.actual = actual
        super().__init__(f"{what}: expected shape {expected}, got {actual}")


class NotFinite(AveragingError):
    """The own model holds NaN or infinity: nothing can be averaged around it."""

    def __init__(self) -> None:
        super().__init__(
            "the own model holds a value that is NaN or infinite: expected finite numbers; "
            "train again from the last model that was averaged"
        )


class WeightOutOfRange(AveragingError):
    """A neighbour's mixing weight is not in (0, 1)."""

    def __init__(self, neighbour: int, actual: float) -> None:
        self.neighbour = neighbour
        self.actual = actual
        super().__init__(f"weight of neighbour {neighbour}: expected 0 < w < 1, got {actual!r}")


class NoWeightForSelf(AveragingError):
    """The neighbours' weights leave nothing for the own model."""

    def __init__(self, total: float) -> None:
        self.total = total
        super().__init__(f"sum of the neighbours' weights: expected less than 1, got {total!r}")


class GraphError(AveragingError):
    """A graph or its weights cannot be built as asked; the message says why."""


class UnknownTopology(GraphError):
    """No topology of that name exists."""

    def __init__(self, kind: str, known: Sequence[str]) -> None:
        self.kind = kind
        self.known = tuple(known)
        super().__init__(f"no topology {kind!r}; known: {', '.join(known)}")


class UnknownSite(GraphError):
    """A site is named that is not part of the graph."""

    def __init__(self, site: bytes) -> None:
        self.site = site
        super().__init__(f"site {site.hex()[:12]} is not part of this graph")


class ShareCapTooLow(GraphError):
    """So few sites cannot hold all of the weight under this cap."""

    def __init__(self, cap: float, sites: int) -> None:
        self.cap = cap
        self.sites = sites
        super().__init__(f"share cap: expected 1/{sites} ≤ cap ≤ 1 for {sites} sites, got {cap!r}")
