"""The examples of researchers' plans pass the trial that every text goes through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from learn_manifests import manifest, table
from learn_texts import PLAIN

from p2pfl.core.manifest import parse_data_section
from p2pfl.core.manifest_code import text_problem
from p2pfl.core.manifest_terms import DataTerms, Manifest, PlanTerms, PrivacyTerms
from p2pfl.learning.code_check import check_plan
from p2pfl.learning.code_report import report
from p2pfl.learning.errors import LearningError, PlanRefused
from p2pfl.learning.plans.code import code_plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TABLE = table(4)
PRIVATE = PrivacyTerms("gaussian", 3.0, "1e-3", 2.0, "patient", "full", 1.0, 9.1, 1)


def coded(data: DataTerms) -> Manifest:
    return replace(manifest(TABLE), data=data, plan=PlanTerms("code", {}, {}), privacy=PRIVATE)


def images(axes: int) -> DataTerms:
    terms = parse_data_section((EXAMPLES / "plans" / "prostate.toml").read_bytes())
    assert terms.images is not None
    return replace(terms, images=replace(terms.images, window=(8,) * axes))


@pytest.mark.parametrize(
    ("name", "data", "parameters"),
    [
        ("tabular", TABLE, 4 * 16 + 16 + 16 + 1),
        ("segmentation", images(2), None),
        ("segmentation", images(3), None),
        ("vae", replace(TABLE, target=None), None),
        ("fine_tuning", TABLE, 4 * 64 + 64 + 64 * 2 + 2),
    ],
)
def test_each_example_can_be_protected_patient_by_patient(
    name: str, data: DataTerms, parameters: int | None
) -> None:
    text = (EXAMPLES / "code" / f"{name}.py").read_text()
    assert text_problem(text) == ""
    found = report(text)
    assert (found["problem"], found["packages"], found["calls"]) == ("", ["torch"], [])
    told = check_plan(code_plan(text, has_images=data.images is not None), coded(data))
    assert parameters in (None, told["parameters"])
    assert f"[{name}.py]" in (EXAMPLES / "code" / "README.md").read_text()


def changed(old: str, new: str) -> str:
    assert PLAIN.count(old) == 1
    return PLAIN.replace(old, new)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (changed("return weight", "return weight * outputs.mean()"), "with who else is in the"),
        (changed("return weight", "return weight * float('nan')"), "is not finite"),
        (changed("outputs[:, 0], target, red", "outputs[:, 0].detach(), target, red"), "depend on"),
        (
            changed("return nn.Sequential(", "return Unused(").replace(
                "class Plan",
                "class Unused(nn.Sequential):\n    def __init__(self, *parts):\n"
                "        super().__init__(*parts)\n        self.more = nn.Linear(2, 2)\n"
                "    def forward(self, x):\n        return self[2](self[1](self[0](x)))\n\n\n"
                "class Plan",
            ),
            '"more.weight" does not reach the loss',
        ),
    ],
)
def test_what_would_mislead_in_a_study_is_found_without_data(text: str, what: str) -> None:
    plan = code_plan(text)
    with pytest.raises(PlanRefused, match=what):
        check_plan(plan, coded(TABLE))


def test_a_text_meets_only_data_it_can_use() -> None:
    plan = code_plan(PLAIN.replace("inputs.features", "3"))
    with pytest.raises((LearningError, RuntimeError)):
        check_plan(plan, coded(TABLE))


HIDING = """\
import os, socket as s
import ctypes
from subprocess import run
import numpy as np


class Plan:
    def model(self, inputs, arguments):
        global kept
        getattr(os, "sys" + "tem")("id")
        np.load("x"); open("y"); eval("1")
        return ().__class__.__bases__
"""


def test_reading_names_what_has_to_do_with_the_world_outside() -> None:
    found = report(HIDING)
    assert found["packages"] == ["numpy"]
    calls = found["calls"]
    assert isinstance(calls, list)
    named = {(call["kind"], call["what"], call["line"]) for call in calls}
    assert named >= {
        ("files", "import os", 1),
        ("network", "import socket", 1),
        ("native code", "import ctypes", 2),
        ("processes", "import subprocess", 3),
        ("kept between calls", "kept", 9),
        ("hidden", "getattr()", 10),
        ("files", ".load", 11),
        ("files", "open()", 11),
        ("hidden", "eval()", 11),
        ("hidden", ".__bases__", 12),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = (\n", "line 1: '(' was never closed"),
        ("x = " + "(" * 150 + "1" + ")" * 150, ""),
        ("x = " + "-" * 20_000 + "1\n", "nested too deeply to be read"),
        ("x = " + "[" * 9_000, "line 1: too many nested parentheses"),
        ("x" + ".a" * 9_000 + "\n", "nested too deeply to be read"),
    ],
)
def test_texts_that_nest_deeply_end_no_reader(text: str, problem: str) -> None:
    assert report(text)["problem"] == problem


def test_a_list_that_goes_on_for_ever_is_cut() -> None:
    found = report("import os\n" * 900)
    assert isinstance(found["imports"], list)
    assert len(found["imports"]) == 200
    assert found["left_out"] == 1400
