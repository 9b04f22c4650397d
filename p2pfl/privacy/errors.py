"""What privacy refuses, one class per violated rule, each with expected and actual.

Responsible for naming refusals. Must not know who asked.
"""


class PrivacyError(Exception):
    """The base of everything p2pfl.privacy refuses."""


class ValueRefused(PrivacyError):
    """A number lies outside the range in which the mathematics below it holds."""

    def __init__(self, what: str, *, expected: str, actual: object) -> None:
        super().__init__(f"{what}: expected {expected}, got {actual}")
        self.what = what
        self.expected = expected
        self.actual = actual


class NoiseInputRefused(ValueRefused):
    """Noise was asked for with a key, spread or rate that gives no protection."""


class EventRefused(ValueRefused):
    """A privacy event lies outside the range that the accountant can be trusted with."""


class AccountingInputRefused(ValueRefused):
    """A δ, a target ε or a number of rounds cannot be accounted for."""


class EpsilonUnreachable(PrivacyError):
    """No amount of noise that still lets a model learn reaches the wanted ε."""

    def __init__(self, *, epsilon: float, sigma_max: float) -> None:
        super().__init__(
            f"ε = {epsilon:g} would need a noise multiplier above {sigma_max:g}: "
            "ask for fewer rounds, a larger ε or a larger δ"
        )
        self.epsilon = epsilon
        self.sigma_max = sigma_max


class VectorRefused(ValueRefused):
    """A vector cannot be clipped and noised: wrong type, wrong shape, or not finite."""


class TooFewPatients(PrivacyError):
    """A dataset is smaller than the smallest public bucket."""

    def __init__(self, *, patients: int, patients_min: int) -> None:
        super().__init__(f"{patients} patients are too few: at least {patients_min} are needed")
        self.patients = patients
        self.patients_min = patients_min


class BudgetError(PrivacyError):
    """The base of what a dataset's budget refuses."""


class BudgetExhausted(BudgetError):
    """The next round, or a whole study, would take a dataset past its ε cap."""

    def __init__(self, *, left_u: int, needed_u: int) -> None:
        super().__init__(
            f"privacy budget exhausted: ε {needed_u / 1e6:.6f} needed, {left_u / 1e6:.6f} left"
        )
        self.left_u = left_u
        self.needed_u = needed_u


class RoundsExhausted(BudgetError):
    """A study has trained as many private rounds as its approval reserved."""

    def __init__(self, *, rounds_reserved: int) -> None:
        super().__init__(f"all {rounds_reserved} approved private rounds are spent")
        self.rounds_reserved = rounds_reserved


class NothingReserved(BudgetError):
    """A study holds no open reservation on this dataset."""

    def __init__(self, study: bytes) -> None:
        super().__init__(f"study {study.hex()[:16]} has no open reservation on this dataset")
        self.study = study


class DatasetUnavailable(BudgetError):
    """A dataset was never registered, was registered twice, or was withdrawn."""

    def __init__(self, dataset: bytes, reason: str) -> None:
        super().__init__(f"dataset {dataset.hex()[:16]} {reason}")
        self.dataset = dataset
        self.reason = reason


class TableRefused(ValueRefused):
    """An ε table is empty, negative or decreasing: it cannot bound what a study spends."""
