"""What learning refuses: one class per kind of refusal, each with the code that goes to the node.

Responsible for sentences a data manager can act on. A message never quotes a patient's value:
it may end up in a log.
"""

from __future__ import annotations

from typing import ClassVar


class LearningError(Exception):
    """The base of everything learning refuses. `code` is what the worker answers with."""

    code: ClassVar[str] = "learning"


class RequestRefused(LearningError):
    """A request to the worker is malformed or comes out of order."""

    code: ClassVar[str] = "request"


class DataRefused(LearningError):
    """A dataset does not fit the manifest's [data] terms.

    place: file, row and column as far as they are known; fix: what the data manager can do.
    """

    code: ClassVar[str] = "data"

    def __init__(self, place: str, problem: str, *, fix: str) -> None:
        super().__init__(f"{place}: {problem}. Fix: {fix}")
        self.place = place
        self.problem = problem
        self.fix = fix


class TooFewPatients(DataRefused):
    """The dataset has fewer patients than the study asks for."""


class PlanRefused(LearningError):
    """The manifest names a plan or an argument that this node does not ship or allow."""

    code: ClassVar[str] = "plan"


class PrivacyRefused(LearningError):
    """The manifest's privacy terms cannot be kept here."""

    code: ClassVar[str] = "privacy"


class ModelRefused(LearningError):
    """A model file is not one finite float32 vector of the agreed length."""

    code: ClassVar[str] = "model"


class StatisticsRefused(LearningError):
    """Released statistics make no sense for these columns."""

    code: ClassVar[str] = "statistics"


class Diverged(LearningError):
    """Training ended in numbers that are not finite; nothing was written."""

    code: ClassVar[str] = "diverged"
