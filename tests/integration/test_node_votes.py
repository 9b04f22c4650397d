"""Votes and newer cards between drivers in one process: conflicts, moves, new keys, restarts."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from node_homes import Consortium, audit_code, entries, p2pfl
from node_in_process import LocalNode

from gossip.card import Card, decode_card, sign_card
from gossip.identifiers import Digest
from gossip.keys import SiteKeys
from gossip.memory_transport import MemoryTransport, Switchboard
from gossip.roster import decode_roster
from gossip.roster_change import apply_change, change_of
from p2pfl.core import membership_terms as terms
from p2pfl.core.membership import Membership
from p2pfl.runtime.home import Home


def newcomer(made: Consortium, name: str, port: int) -> Card:
    """Somebody's card: a home of its own is not needed to be voted in."""
    home = Home(made.folder / name)
    p2pfl(home, "init", "--name", name, "--listen", f"127.0.0.1:{port}", "--consortium", "test")
    return decode_card(home.card(name).read_bytes())


def moved(made: Consortium, serial: int) -> Card:
    """A newer card of the first site, for the members to vote on: they stay three."""
    old, keys = made.roster.member(made.site(0)), made.keys(0)
    addresses = [f"127.0.0.1:{7900 + serial}"]
    stated = {"name": old.name, "log_id": old.log_id, "addresses": addresses, "serial": serial}
    return sign_card(keys, **stated)  # type: ignore[arg-type]


def machine(node: LocalNode) -> Membership:
    return node.driver.membership.machine


def in_force(node: LocalNode) -> int:
    """The version in the home: everything about it is durable, and the node goes by it."""
    stored = decode_roster(node.home.roster.read_bytes()).version
    return min(stored, node.driver.core.roster.version)


async def started(made: Consortium, network: Switchboard) -> list[LocalNode]:
    nodes = [await LocalNode(made, index, network).start() for index in range(made.count)]
    await until(nodes, lambda node: len(node.driver.core.connected) == made.count - 1)
    return nodes


async def propose(node: LocalNode, card: Card) -> Digest:
    change = change_of(machine(node).roster, cards=[card])
    await node.driver.membership.act(terms.Proposed(change))
    return apply_change(machine(node).roster, change).digest


async def sign(node: LocalNode, digest: Digest) -> None:
    await until([node], lambda node: digest in machine(node).ballots.candidates)
    await node.driver.membership.act(terms.Signed(digest))


async def until(nodes: list[LocalNode], holds: Callable[[LocalNode], object]) -> None:
    """Look again until it holds at each of them; the loop goes on meanwhile."""
    async with asyncio.timeout(60.0):
        for node in nodes:
            while not holds(node):
                await asyncio.to_thread(lambda: None)


async def stopped(nodes: list[LocalNode]) -> None:
    for node in nodes:
        await node.stop()
        assert node.seen.bugs == []


async def test_two_sites_proposed_at_once_end_in_one_roster_after_voting_again(
    founded: Consortium, tmp_path: Path
) -> None:
    made = founded.copied(tmp_path / "c")
    nodes = await started(made, Switchboard())
    one, two, three = nodes
    first = await propose(one, newcomer(made, "north", 7801))
    second = await propose(two, newcomer(made, "south", 7802))
    await until(nodes, lambda node: len(machine(node).ballots.candidates) == 2)
    for node in nodes:
        await node.driver.membership.act(terms.VotedAgain())
    await until(nodes, lambda node: machine(node).ballots.vote == 2)
    for node in (one, three):
        await sign(node, second)
    await until(nodes, lambda node: in_force(node) == 2)
    assert {machine(node).roster.digest for node in nodes} == {second}
    # What was set aside can be proposed again, to the roster that is in force now.
    third = await propose(one, newcomer(made, "east", 7803))
    await sign(two, third)
    await sign(three, third)
    await until(nodes, lambda node: in_force(node) == 3)
    assert first not in {roster.digest for roster in machine(one).chain.rosters}
    await stopped(nodes)
    for home in made.homes:
        assert audit_code(home) == 0
        assert len(entries(home, "roster.changed")) == 3


async def test_a_vote_goes_on_after_its_nodes_were_stopped(
    founded: Consortium, tmp_path: Path
) -> None:
    made = founded.copied(tmp_path / "c")
    nodes = await started(made, Switchboard())
    digest = await propose(nodes[0], newcomer(made, "north", 7801))
    await until(nodes, lambda node: digest in machine(node).ballots.candidates)
    await stopped(nodes)
    nodes = await started(made, Switchboard())
    for node in nodes:
        assert digest in machine(node).ballots.candidates
    await sign(nodes[2], digest)
    await until(nodes, lambda node: in_force(node) == 2 and machine(node).roster.digest == digest)
    await stopped(nodes)
    again = await started(made, Switchboard())
    assert {machine(node).roster.digest for node in again} == {digest}
    await stopped(again)


async def test_a_site_that_was_away_is_given_the_versions_it_missed(
    founded: Consortium, tmp_path: Path
) -> None:
    made, network = founded.copied(tmp_path / "c"), Switchboard()
    awake = await started(made, network)
    await awake[2].stop()
    for serial in (1, 2):
        digest = await propose(awake[0], moved(made, serial))
        await sign(awake[1], digest)
        await until(awake[:2], lambda node, serial=serial: in_force(node) == serial + 1)
    sleeper = await LocalNode(made, 2, network).start()
    await until([sleeper], lambda node: in_force(node) == 3)
    assert sleeper.driver.core.roster.version == 3
    await stopped([*awake[:2], sleeper])
    assert audit_code(made.home(2)) == 0


async def test_a_removed_member_is_cut_off_and_leaves_by_itself(
    founded: Consortium, tmp_path: Path
) -> None:
    made = founded.copied(tmp_path / "c")
    nodes = await started(made, Switchboard())
    *others, gone = nodes
    site = made.site(2)
    change = change_of(machine(others[0]).roster, remove=[site])
    await others[0].driver.membership.act(terms.Proposed(change))
    await sign(others[1], apply_change(machine(others[1]).roster, change).digest)
    await until(others, lambda node: site not in node.driver.core.connected)
    await until([gone], lambda node: not machine(node).is_member)
    await until([gone], lambda node: not node.driver.core.connected)
    await until([gone], lambda node: node.seen.happened("roster_in_force"))
    for node in others:
        assert node.driver.core.connected == {n.keys.site for n in others} - {node.keys.site}
    await stopped(nodes)
    for home in made.homes:
        assert audit_code(home) == 0


async def test_a_new_transport_key_is_followed_and_the_old_one_refused(
    founded: Consortium, tmp_path: Path
) -> None:
    made, network = founded.copied(tmp_path / "c"), Switchboard()
    nodes = await started(made, network)
    *others, mover = nodes
    old = machine(mover).roster.member(mover.keys.site)
    keys = SiteKeys(mover.keys.identity, bytes(range(32)), mover.keys.log, mover.keys.witness)
    card = sign_card(keys, name=old.name, log_id=old.log_id, addresses=["127.0.0.1:7999"], serial=1)
    await mover.driver.membership.act(terms.Renewed(card))
    site = mover.keys.site
    await until(others, lambda node: machine(node).members.member(site) == card)
    await until(others, lambda node: site not in node.driver.core.connected)  # the old key
    for node in others:
        assert [e.body["serial"] for e in entries(node.home, "card.renewed")] == [1]
    await mover.stop()
    elsewhere = MemoryTransport(keys.transport, machine(others[0]).members, network)
    await elsewhere.start(Deaf())
    await until(others, lambda node: site in node.driver.core.connected)
    await elsewhere.stop()
    await stopped(others)


class Deaf:
    """An inbox that nobody reads."""

    def connected(self, site: bytes) -> None: ...
    def disconnected(self, site: bytes) -> None: ...
    def received(self, source: bytes, raw: bytes) -> None: ...
    def refused(self, address_or_site: str, reason: str) -> None: ...
    def blob(self, site: bytes, digest: bytes) -> None: ...
