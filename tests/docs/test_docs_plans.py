"""The ready [data] sections fit the plans they are named for, and the documents name every plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2pfl.core.manifest import parse_data_section
from p2pfl.core.manifest_terms import COUNTING_PLANS, NO_PRIVACY
from p2pfl.learning.plans import PLANS, plan_named
from p2pfl.learning.plans.arguments import ALLOWED, CHOICES
from p2pfl.runtime.commands.plan_recipes import RECIPES, recipe_arguments
from p2pfl.runtime.policy import PLANS as ALLOWED_PLANS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples" / "plans").glob("*.toml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_fits_its_plan_with_the_recipe_s_arguments(file: Path) -> None:
    text = file.read_text()
    named = re.search(r"--plan ([a-z-]+)", text)
    assert named is not None
    plan = plan_named(named[1])
    arguments = plan.arguments(recipe_arguments(plan.name, {}, is_private=False))
    terms = parse_data_section(text.encode())
    plan.check(terms, arguments, NO_PRIVACY)
    listed = (ROOT / "examples" / "plans" / "README.md").read_text()
    assert f"| `{file.name}` | `{plan.name}` |" in listed


def test_every_plan_has_a_recipe_is_allowed_by_default_and_is_documented() -> None:
    assert set(PLANS) == set(RECIPES) == set(ALLOWED_PLANS) - set(COUNTING_PLANS)
    documented = (ROOT / "docs" / "plans.md").read_text()
    assert all(f"| `{name}` |" in documented for name in PLANS)


def test_every_argument_and_word_is_documented() -> None:
    documented = (ROOT / "docs" / "plans.md").read_text()
    words = {word for choices in CHOICES.values() for word in choices} - {"default"}
    missing = [
        name for name in {*ALLOWED, *CHOICES, *words} if not re.search(rf"\b{name}\b", documented)
    ]
    assert missing == []
