"""The accountant as a short-lived process: `python -m p2pfl.privacy.table`, JSON in, JSON out.

Responsible for keeping two seconds of imports and two hundred megabytes out of the node: it starts
this when a study is proposed or approved, and reads the answer. Must not know studies or datasets.

Requests on standard input, at most 1 MiB, decimals as text, one of:

    {"request": "table", "history": [EVENT, …], "per_round": EVENT, "rounds": 30, "delta": "1e-3"}
    {"request": "epsilon", "events": [EVENT, …], "delta": "1e-3"}
    {"request": "calibrate", "epsilon": "3", "q": "0.05", "steps_total": 600, "delta": "1e-5"}
    {"request": "schedule", "bucket": 200, "epsilon": "3", "delta": "1e-3", "rounds": 30}
    EVENT = {"mech": "poisson", "sigma": "1.1", "q": "0.05", "steps": 20}

The answer repeats "accountant" and "version", with "table_u", "eps_u", "sigma" or the schedule's
fields. A refusal is {"error": {"code": …, "message": …}}; see ExitCode.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, TextIO, TypeAlias

from p2pfl.privacy.accounting import (
    ACCOUNTANT,
    accountant_version,
    calibrate,
    epsilon_table_u,
    epsilon_u,
)
from p2pfl.privacy.errors import PrivacyError
from p2pfl.privacy.events import DpEvent, decimal, parse_event
from p2pfl.privacy.schedule import choose_schedule

REQUEST_BYTES_MAX: Final = 1 << 20
EVENTS_MAX: Final = 10_000

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Answer: TypeAlias = Mapping[str, Json]


class ExitCode(IntEnum):
    """How the process ends: answered, the request makes no sense, or privacy refuses it."""

    ANSWERED = 0
    REFUSED = 1
    MALFORMED = 2


class RequestMalformed(PrivacyError):
    """The request is no JSON of a known form."""


def run(source: TextIO, sink: TextIO) -> ExitCode:
    """Answer the one request in `source` with one line of JSON in `sink`."""
    try:
        answer, code = answer_request(_read(source)), ExitCode.ANSWERED
    except RequestMalformed as error:
        answer, code = _error(error), ExitCode.MALFORMED
    except PrivacyError as error:
        answer, code = _error(error), ExitCode.REFUSED
    sink.write(json.dumps(answer, ensure_ascii=False) + "\n")
    return code


def answer_request(request: Answer) -> Answer:
    """Compute what a parsed request asks for. Raises RequestMalformed and PrivacyErrors."""
    match _text(request, "request"):
        case "table":
            answer = _table(request)
        case "epsilon":
            total_u = epsilon_u(_events(request, "events"), _decimal(request, "delta"))
            answer = {"eps_u": total_u}
        case "calibrate":
            answer = {"sigma": str(_sigma(request))}
        case "schedule":
            answer = _schedule(request)
        case unknown:
            known = "table, epsilon, calibrate or schedule"
            raise RequestMalformed(f"request: expected {known}, got {unknown!r:.60}")
    return {**answer, "accountant": ACCOUNTANT, "version": accountant_version()}


def _table(request: Answer) -> Answer:
    history = _events(request, "history")
    per_round = _event(request.get("per_round"))
    rounds, delta = _integer(request, "rounds"), _decimal(request, "delta")
    return {"table_u": list(epsilon_table_u(history, per_round, rounds, delta))}


def _sigma(request: Answer) -> float:
    target, q = _decimal(request, "epsilon"), _decimal(request, "q")
    return calibrate(target, q, _integer(request, "steps_total"), _decimal(request, "delta"))


def _schedule(request: Answer) -> Answer:
    target, delta = _decimal(request, "epsilon"), _decimal(request, "delta")
    bucket, rounds = _integer(request, "bucket"), _integer(request, "rounds")
    schedule = choose_schedule(bucket, target, delta, rounds)
    return {
        "sampling": schedule.sampling,
        "rate": str(schedule.rate),
        "steps_per_round": schedule.steps_per_round,
        "noise_multiplier": str(schedule.noise_multiplier),
        "sentence": schedule.sentence,
    }


def _read(source: TextIO) -> Answer:
    text = source.read(REQUEST_BYTES_MAX + 1)
    if len(text) > REQUEST_BYTES_MAX:
        raise RequestMalformed(f"request: expected at most {REQUEST_BYTES_MAX} characters")
    try:
        parsed: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestMalformed(f"request: not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise RequestMalformed("request: expected a JSON object")
    return parsed


def _error(error: PrivacyError) -> Answer:
    return {"error": {"code": type(error).__name__, "message": str(error)}}


def _events(request: Answer, key: str) -> Sequence[DpEvent]:
    listed = request.get(key)
    if not isinstance(listed, list) or len(listed) > EVENTS_MAX:
        raise RequestMalformed(f"{key}: expected a list of at most {EVENTS_MAX} events")
    return [_event(item) for item in listed]


def _event(item: Json) -> DpEvent:
    if not isinstance(item, dict):
        raise RequestMalformed(f"event: expected an object, got {item!r:.60}")
    sigma, q = _text(item, "sigma"), _text(item, "q")
    return parse_event(_text(item, "mech"), sigma, q, _integer(item, "steps"))


def _text(item: Answer, key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise RequestMalformed(f"{key}: expected text, got {value!r:.60}")
    return value


def _integer(item: Answer, key: str) -> int:
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestMalformed(f"{key}: expected an integer, got {value!r:.60}")
    return value


def _decimal(item: Answer, key: str) -> float:
    return decimal(_text(item, key), what=key)


if __name__ == "__main__":
    sys.exit(run(sys.stdin, sys.stdout))
