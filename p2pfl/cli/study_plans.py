"""`p2pfl study plans`: what a study can train."""

from __future__ import annotations

from p2pfl.cli.context import JsonOption, say, say_json, say_table


def plans(json: JsonOption = False) -> None:
    """The training plans that are shipped, and what each is for."""
    from p2pfl.runtime.commands.plan_recipes import RECIPES

    if json:
        say_json({name: recipe.purpose for name, recipe in RECIPES.items()})
        return
    say_table(("plan", "predicts"), [(name, recipe.purpose) for name, recipe in RECIPES.items()])
    say("Next: p2pfl study new --plan NAME …; docs/plans.md has each one's arguments.")
