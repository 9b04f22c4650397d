"""`p2pfl node status` says why a node stands still: approvals, the ledger's word, a network key."""

import contextlib
import socket
from pathlib import Path

from node_homes import found, p2pfl, with_study
from node_processes import running

from p2pfl.runtime.config import read_config

HELLO = b"\x13/multistream/1.0.0\n"


def test_status_names_what_a_node_waits_for_and_whom_it_turned_away(tmp_path: Path) -> None:
    made = with_study(found(tmp_path / "c", 3), approving=1)
    home = made.home(0)
    p2pfl(home, "keys", "network", "make")
    with home.config.open("a") as config:
        config.write("network_key = true\n")
    host, _, port = read_config(home.config).listen.rpartition(":")
    with running([home]) as (node,):
        node.wait("node_ready")
        with socket.create_connection((host, int(port)), timeout=10) as stranger:
            stranger.sendall(HELLO)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(100):
                    pass
        node.until(lambda: node.status()["turned_away"].get("NoNetworkKey"), "counts it")
        told = " ".join(p2pfl(home, "node", "status").split())
    assert "WAITS: no other site has said yet which head of this ledger it knows" in told
    assert "p2pfl node start --offline-ok" in told
    assert "waiting, 1 of 3 approvals" in told
    assert "× NoNetworkKey" in told
    assert "models 0 kB" not in told
    assert "kB in 1 file, of all rounds" in told
