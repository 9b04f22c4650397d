"""Child processes for heavy work: their failure is a sentence, their silence has an end."""

from __future__ import annotations

import pytest

from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.budgets import ask_accountant
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError


def test_output_is_what_the_module_printed() -> None:
    finished = run_module(
        "json.tool", ["--compact"], given=b'{"a": 1}', deadline_s=30.0, purpose="JSON"
    )
    assert output_of(finished, "JSON") == b'{"a":1}\n'


def test_failure_is_told_in_the_childs_last_line() -> None:
    finished = run_module("json.tool", [], given=b"{", deadline_s=30.0, purpose="JSON")
    with pytest.raises(OperatorError, match="JSON failed: Expecting property name") as caught:
        output_of(finished, "JSON")
    assert caught.value.exit_code == EXIT_DATA


def test_a_child_that_does_not_end_is_given_up() -> None:
    with pytest.raises(OperatorError, match=r"did not finish within 0\.5 s") as caught:
        run_module("http.server", ["0"], given=b"", deadline_s=0.5, purpose="Waiting")
    assert caught.value.exit_code == EXIT_UNAVAILABLE


def test_the_accountant_answers_and_refuses_in_words() -> None:
    answer = ask_accountant(
        {"request": "calibrate", "epsilon": "3", "q": "1", "steps_total": 30, "delta": "1e-3"}
    )
    assert answer["sigma"]
    with pytest.raises(OperatorError, match="The privacy terms are refused") as caught:
        ask_accountant(
            {"request": "calibrate", "epsilon": "-3", "q": "1", "steps_total": 30, "delta": "1e-3"}
        )
    assert caught.value.exit_code == EXIT_REFUSED
