"""A log whose key was replaced: mirrored, lost, recovered, exported and audited with its peers."""

import asyncio
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, found, p2pfl, p2pfl_json
from node_mending import healed, incarnated, lose_disk, mirrored, nodes_of, recovered, until

from gossip.memory_transport import Switchboard
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from p2pfl.core.events import OwnLog
from p2pfl.core.witnessing_terms import witness_name
from p2pfl.runtime.errors import OperatorError


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Three sites, without a node so far."""
    return found(tmp_path_factory.mktemp("rotated") / "c", 3)


@pytest.fixture
def made(three: Consortium, tmp_path: Path) -> Consortium:
    return three.copied(tmp_path / "c")


def rotate(made: Consortium) -> None:
    p2pfl(made.home(0), "ledger", "rotate-key", "--yes")


def test_a_mirror_of_before_two_rotations_recovers_the_log_that_went_on(made: Consortium) -> None:
    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        for _ in range(2):
            await mirrored(made, switchboard)
            rotate(made)
            p2pfl(home, "ledger", "rotate-key", "--yes")
        p2pfl(home, "data", "revoke", "patients")
        await mirrored(made, switchboard)
        whole = [entry.raw for entry in entries(home)]
        lose_disk(made)
        async with nodes_of(made, switchboard, 1, 2) as others:
            done = await recovered(home, switchboard)
            assert done.taken == len(whole)
            assert [entry.raw for entry in entries(home)][:-1] == whole
            await healed(made, switchboard, others)

    asyncio.run(scenario())


def test_a_home_of_before_a_rotation_is_told_that_its_key_was_replaced(made: Consortium) -> None:
    """What others hold is under a key that this home has never seen: it proves itself."""

    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        old, new_key = made.folder / "old", made.folder / "log.key"
        shutil.copytree(home.path, old)
        rotate(made)
        shutil.copy(home.keys / "log.key", new_key)
        p2pfl(home, "data", "revoke", "patients")
        await mirrored(made, switchboard)
        whole = [entry.raw for entry in entries(home)]
        shutil.rmtree(home.path)
        shutil.copytree(old, home.path)
        async with nodes_of(made, switchboard, 1, 2) as others:
            async with nodes_of(made, switchboard, 0, must_ask=True) as (node,):
                await until(lambda: node.driver.core.own_log is OwnLog.READ_ONLY)
            with pytest.raises(OperatorError, match="log key was replaced") as refused:
                await recovered(home, switchboard)
            assert "p2pfl ledger new-incarnation" in refused.value.fix
            assert [entry.raw for entry in entries(home)] == whole[: len(entries(home))]
            lose_disk(made)
            with pytest.raises(OperatorError, match="log key was replaced"):
                await recovered(home, switchboard)
            with pytest.raises(OperatorError, match=f"All {len(whole)} entries .* are known"):
                await incarnated(home, switchboard, confirmed=False)
            shutil.copy(new_key, home.keys / "log.key")
            await recovered(home, switchboard)
            assert [entry.raw for entry in entries(home)][:-1] == whole
            await healed(made, switchboard, others)

    asyncio.run(scenario())


def test_the_others_follow_a_new_witness_key_while_their_nodes_run(made: Consortium) -> None:
    """What the old key cosigned stays, and the audit of whom both cosigned is clean."""

    def key_ids() -> set[bytes]:
        """Under which the first site cosigned the second one's ledger."""
        name = witness_name(made.site(0))
        with closing(WitnessDatabase.open(made.home(1).path / WITNESS_NAME)) as book:
            lines = [c for head in book.own_heads() for c in head.cosignatures]
        return {line.key_id for line in lines if line.witness == name}

    async def scenario() -> None:
        home, switchboard = made.home(0), Switchboard()
        await mirrored(made, switchboard)
        before = key_ids()
        assert len(before) == 1
        async with nodes_of(made, switchboard, 1, 2) as others:
            p2pfl(home, "keys", "rotate", "witness", "--yes")
            async with nodes_of(made, switchboard, 0):
                await until(lambda: len(key_ids()) == 2)
            assert before < key_ids()
            (old,) = p2pfl_json(made.home(1), "roster", "show")["witness_before"]
            assert (old["name"], old["disowned"]) == ("site0", False)
            assert not others[0].driver.core.accused
            assert not [rule for _, rule in others[0].driver.core.refused]
        assert audit_code(made.home(1)) == 0

    asyncio.run(scenario())
