"""What a site keeps, as its two files say it: how long in policy.toml, how much in config.toml."""

from p2pfl.runtime.config import read_config
from p2pfl.runtime.home import Home
from p2pfl.runtime.keeping import GB, Keep
from p2pfl.runtime.policy import read_policy


def keep_of(home: Home) -> Keep:
    """Raises OperatorError."""
    policy, _ = read_policy(home.policy)
    return Keep(policy.keep_rounds, int(read_config(home.config).models_gb * GB))
