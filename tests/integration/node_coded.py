"""Sites that allow researchers' code, and studies with a plan's text."""

import pytest
from learn_texts import PLAIN
from node_homes import Consortium, p2pfl, with_study

from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home

UNPROTECTED = ("--privacy", "none")
SHORT = ("--consensus-rounds", "1", "--round-deadline", "20", "--argument", "learning_rate=0.1")


def allow_code(home: Home) -> None:
    """What somebody who may writes into policy.toml."""
    policy = home.policy.read_text()
    home.policy.write_text(policy.replace("plans = [", 'plans = [\n    "code",'))


def allow_by_code(home: Home) -> None:
    """Privacy by approved code, too."""
    policy = home.policy.read_text()
    allowed = policy.replace("allow_privacy_by_code = false", "allow_privacy_by_code = true")
    home.policy.write_text(allowed)


def with_text(made: Consortium) -> Consortium:
    """The plan's text beside the homes, which allow it from now on."""
    (made.folder / "plan.py").write_text(PLAIN)
    for home in made.homes:
        allow_code(home)
    return made


def with_plan(made: Consortium, *terms: str, approving: int | None = None) -> Consortium:
    return with_study(
        made, "--from", str(made.folder / "plan.py"), *SHORT, *terms, approving=approving
    )


def told(home: Home, *words: str) -> str:
    """What a command prints, in one line."""
    return " ".join(p2pfl(home, *words).split())


def refusal(home: Home, *words: str) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        p2pfl(home, *words)
    return caught.value
