"""What the training process answers, checked field by field.

The process is trusted less than the node: it runs heavy libraries over data, later also foreign
code. Whatever it says is a claim; here it becomes a value of the right type and range, or a
`TrainingError`. Whether a claim about privacy is the approved one is the core's to decide."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.core.events import Spending
from p2pfl.runtime.guarding import Compared

Answer = Mapping[str, Any]
"""A frame: text keys, values of any msgpack type."""

DIGEST_BYTES: Final = 32
TEXT_CHARACTERS_MAX: Final = 64
COUNT_MAX: Final = 1 << 40
STEPS_MAX: Final = 10_000_000
"""As the ledger counts them."""
SCORE_DIGITS: Final = 4


class TrainingError(Exception):
    """The training process refused a request, answered nonsense, or is gone. `code`: one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AnswerGarbled(TrainingError):
    """An answer lacks a field, or holds something else than expected in it."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__("garbled", f'the training process answered without "{field}" ({expected})')


@dataclass(frozen=True, slots=True)
class Opened:
    """Plan and data are loaded."""

    parameters: int
    code_hash: bytes
    env_hash: bytes


@dataclass(frozen=True, slots=True)
class Trained:
    """A round of local work is done; the update lies in the file that was named."""

    spending: Spending
    loss: float
    seconds: float
    planned: int
    """How many steps there would have been, had the time not been over before."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A model on the own hold-out. auc None: the hold-out has one label only."""

    auc: float | None
    accuracy: float
    measures: tuple[tuple[str, float], ...] = ()


def opened(answer: Answer) -> Opened:
    """The answer to `open`. Raises AnswerGarbled."""
    return Opened(
        _count(answer, "parameters"), _digest(answer, "code_hash"), _digest(answer, "env_hash")
    )


def trained(answer: Answer) -> Trained:
    """The answer to `train`. Raises AnswerGarbled."""
    spending = Spending(
        mech=_text(answer, "mech"),
        sigma=_text(answer, "sigma"),
        q=_text(answer, "q"),
        steps=_count(answer, "steps"),
        clip=_text(answer, "clip"),
    )
    planned = _count(answer, "planned")
    if not 1 <= spending.steps <= planned <= STEPS_MAX:
        raise AnswerGarbled("steps", "at least 1, and no more than were planned")
    return Trained(spending, _number(answer, "loss"), _number(answer, "seconds"), planned)


def scored(answer: Answer, ranges: Mapping[str, tuple[float, float]] | None = None) -> Scored:
    """The answer to `score`. Raises AnswerGarbled.

    ranges: of what the study's own code may measure; nothing else that it says is taken over."""
    accuracy, auc = _number(answer, "accuracy"), answer.get("auc")
    if not 0.0 <= accuracy <= 1.0:  # refuses NaN, too
        raise AnswerGarbled("accuracy", "a number in 0 to 1")
    # Four digits: a score is for people, and no place to carry a patient's row in.
    found = round(auc, SCORE_DIGITS) if isinstance(auc, float) and 0.0 <= auc <= 1.0 else None
    return Scored(found, round(accuracy, SCORE_DIGITS), tuple(_measured(answer, ranges or {})))


def _measured(
    answer: Answer, ranges: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[str, float]]:
    said = answer.get("measures")
    for name, (low, high) in sorted(ranges.items()):
        value = said.get(name) if isinstance(said, Mapping) else None
        if isinstance(value, float) and low <= value <= high:
            yield name, round(value, SCORE_DIGITS)


def compared(answer: Answer) -> Compared:
    """The answer to `compare`. Raises AnswerGarbled."""
    return Compared(_number(answer, "change"), _number(answer, "band"))


def _count(answer: Answer, field: str) -> int:
    value = answer.get(field)
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise AnswerGarbled(field, "a whole number")
    return value


def _number(answer: Answer, field: str) -> float:
    """Not a number is a number here: training may diverge, and people should see that."""
    match answer.get(field):
        case float(value):
            return value
        case int(value) if not isinstance(value, bool):
            return float(value)  # msgpack's integers have 64 bits: always a float
        case _:
            raise AnswerGarbled(field, "a number")


def _text(answer: Answer, field: str) -> str:
    value = answer.get(field)
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX:
        raise AnswerGarbled(field, f"at most {TEXT_CHARACTERS_MAX} characters")
    return value


def _digest(answer: Answer, field: str) -> bytes:
    value = answer.get(field)
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise AnswerGarbled(field, f"{DIGEST_BYTES} bytes")
    return value
