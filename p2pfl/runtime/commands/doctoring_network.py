"""The doctor's look at the consortium: the roster, our own address, everybody else's."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gossip.addresses import split_address
from gossip.card import Card
from gossip.keys import read_keys
from gossip.network_key import network_fingerprint
from p2pfl.runtime.commands.doctoring import Check, Checks, fail, ok, warn
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.commands.starting import check_address
from p2pfl.runtime.config import read_config
from p2pfl.runtime.control_call import node_is_running
from p2pfl.runtime.home import Home
from p2pfl.runtime.network_key import network_key_file, read_network_key

CONNECT_S_MAX: Final = 2.0
AT_ONCE: Final = 32
NEIGHBOURS_MAX: Final = 256
"""More members than this are sampled: the doctor is not a port scanner."""


def check_roster(home: Home) -> Checks:
    """A roster is in force, lists this site, and knows its present keys and addresses."""
    roster = installed_roster(home)
    if roster is None:
        yield warn(
            "roster",
            "This site belongs to no consortium yet.",
            "Collect every site's card, then `p2pfl roster create` and `roster sign`.",
        )
        return
    config, keys = read_config(home.config), read_keys(home.keys)
    if keys.site not in roster:
        yield fail(
            "roster",
            f"The roster of {roster.consortium} does not list this site ({config.name}).",
            "Ask the other sites to create and sign a roster with this site's card.",
        )
        return
    card = roster.member(keys.site)
    if card.addresses != config.announce:
        yield warn(
            "roster",
            f"The others dial {', '.join(card.addresses) or 'nobody here'}; config.toml announces "
            f"{', '.join(config.announce)}.",
            "Change config.toml, or tell the others: `p2pfl roster set-address HOST:PORT`.",
        )
        return
    yield ok("roster", f"{roster.consortium} v{roster.version}, {len(roster.members)} members")


def check_listening(home: Home) -> Checks:
    """The port is free, or our own node listens on it."""
    config = read_config(home.config)
    if not node_is_running(home):
        check_address(config)  # refuses with the words of `node start`
        yield ok("port", f"{config.listen} is free")
        return
    host = config.listen_host
    reachable = "localhost" if host in ("0.0.0.0", "::") else host  # noqa: S104 - read, not bound
    problem = _dial(reachable, config.listen_port)
    if problem:
        yield fail(
            "port",
            f"The node runs, but {config.listen} does not answer: {problem}.",
            "Restart the node; its log says whether it could listen.",
        )
    else:
        yield ok("port", f"our node listens on {config.listen}")


def check_network_key(home: Home) -> Checks:
    """Where the consortium has a network key: it is there, private, and in force."""
    is_wanted, is_there = read_config(home.config).network_key, network_key_file(home).exists()
    if is_wanted:
        told = network_fingerprint(read_network_key(home))
        yield ok("network key", f"in force; its fingerprint has to be {told} at every member")
    elif is_there:
        yield warn(
            "network key",
            f"{network_key_file(home)} is there and not in force.",
            "If the others use it, write network_key = true into config.toml and restart the node.",
        )


def check_neighbours(home: Home) -> Checks:
    """Every other member's addresses answer on TCP; nothing is said to them."""
    roster = installed_roster(home)
    if roster is None:
        return
    me = read_keys(home.keys).site
    members = sorted(roster.members, key=lambda card: (card.name, card.site))
    others = [card for card in members if card.site != me][:NEIGHBOURS_MAX]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        yield from pool.map(_reachable, others)
    left_out = len(roster.members) - 1 - len(others)
    if left_out > 0:
        yield ok("neighbour", f"{left_out} more members were not dialled")


def _reachable(card: Card) -> Check:
    if not card.addresses:
        return ok("neighbour", f"{card.name} dials us; it has no address of its own")
    problems = []
    for address in card.addresses:
        problem = _dial(*split_address(address))
        if not problem:
            return ok("neighbour", f"{card.name} answers on {address}")
        problems.append(f"{address}: {problem}")
    return warn(
        "neighbour",
        f"{card.name} is not reachable ({'; '.join(problems)}).",
        "Ask whether its node runs, and whether a firewall lets this machine through.",
    )


def _dial(host: str, port: int) -> str:
    """What went wrong, or ""."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S_MAX):
            return ""
    except TimeoutError:
        return f"no answer in {CONNECT_S_MAX:g} s"
    except OSError as error:
        return (error.strerror or "not reachable").lower()
