"""One JSON request from stdin, answered on stdout: the loop of every short-lived process of ours.

Responsible for the words of a refusal, which the node passes on to a person. Imports no torch: what
counts without it also answers here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final, TextIO

from p2pfl.core.errors import ManifestError
from p2pfl.learning.errors import LearningError

REQUEST_BYTES_MAX: Final = 1 << 20

Request = Mapping[str, object]
Answered = Callable[[Request], Mapping[str, object]]


def answer_request(answered: Answered, answers: TextIO | None = None) -> int:
    """Returns the exit code; a refusal is one line on stderr and 1.

    answered: raises LearningError, ManifestError or OSError for what is refused. ValueError,
    KeyError and TypeError mean that the request itself is not what the module's docstring says.
    answers: where the answer goes, standard output if nothing is said.
    """
    try:
        answer = answered(json.loads(sys.stdin.read(REQUEST_BYTES_MAX)))
    except LearningError as error:
        return complain(str(error))
    except ManifestError as error:
        return complain(f"the manifest is refused: {error}")
    except OSError as error:
        return complain(f"{error.filename or 'a file'}: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        return complain(f"the request is not as described in the module: {error!r}")
    out = answers or sys.stdout
    out.write(json.dumps(answer) + "\n")
    out.flush()
    return 0


def answers_alone() -> TextIO:
    """Where answers go from now on: what libraries print there goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def tell_line(line: Mapping[str, object]) -> None:
    """One JSON line on standard output, at once: the node may be waiting for it."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def complain(sentence: str) -> int:
    """Why something is refused, on standard error. Returns the exit code."""
    sys.stderr.write(f"{sentence}\n")
    return 1
