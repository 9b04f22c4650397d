"""The ledger's own commands through a running node, and what is exported and audited after them."""

from pathlib import Path

import pytest
from node_homes import Consortium, entries, found, p2pfl, p2pfl_json, with_study
from node_processes import RunningNode, running

from p2pfl.cli.main import main
from p2pfl.runtime.errors import EXIT_LOCKED

FORMS = ("proofs", "tiles", "prov", "rocrate", "csv")


@pytest.fixture
def made(tmp_path: Path) -> Consortium:
    """Two sites; the first one approved a study that the second one did not: nobody trains."""
    return with_study(found(tmp_path / "c", 2), approving=1)


def cosigned(node: RunningNode) -> bool:
    """Whether the newest head of the own ledger has its quorum."""
    if not (node.home.path / "witness.db").is_file():
        return False
    seen = p2pfl_json(node.home, "ledger", "status")
    return bool(seen["quorum_met"] and seen["cosigned_size"] == seen["size"])


def held(node: RunningNode) -> int:
    """Entries of the other site's ledger that are mirrored, without a gap."""
    (other,) = p2pfl_json(node.home, "ledger", "mirror")["others"]
    return int(other["entries"])


@pytest.mark.nodes
def test_a_running_node_erases_rotates_and_mirrors_and_all_of_it_can_be_exported_and_audited(
    made: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    home, other = made.homes
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("node_ready")
        nodes[0].until(lambda: cosigned(nodes[0]), "cosigned before the change")
        (seq,) = [e.seq for e in entries(home) if e.kind == "study.approved"]
        words = ("ledger", "redact", str(seq), "approver", "--basis", "gdpr-17-1-b", "--yes")
        assert p2pfl_json(home, *words)["recorded_as"] == len(entries(home)) - 1
        rotated = [p2pfl_json(home, "ledger", "rotate-key", "--yes") for _ in range(2)]
        assert rotated[1]["old"] == rotated[0]["new"]
        p2pfl(home, "data", "revoke", "patients")
        nodes[0].wait("study_left")
        nodes[0].until(lambda: cosigned(nodes[0]), "cosigned under the new key")
        nodes[0].until(lambda: held(nodes[1]) == len(entries(home)), "mirrored past the rotations")
        capsys.readouterr()
        assert main(["--home", str(home.path), "ledger", "mirror", "--own"]) == EXIT_LOCKED
        assert "p2pfl node stop" in capsys.readouterr().err
        for node in nodes:
            node.stop()
    assert not any(node.said("bug") or node.said("fork_found") for node in nodes)
    kinds = [entry.kind for entry in entries(home)]
    changed = ["redacted", "key.rotated", "key.rotated", "dataset.revoked", "study.revoked"]
    assert kinds[-5:] == changed
    for audited, peer in ((home, other), (other, home)):
        report = p2pfl_json(audited, "ledger", "audit", "--peers", str(peer.path))
        assert (report["exit_code"], report["findings"]) == (0, [])
    for form in FORMS:
        out = made.folder / form
        p2pfl(home, "ledger", "export", form, "--out", str(out))
        assert any(out.iterdir())
    # The other site knows from the ledger itself that the roster's key was replaced.
    for proof in proofs_of(made):
        seen = p2pfl_json(other, "ledger", "check-proof", str(proof))
        assert seen["size"] == len(entries(home)), proof


def proofs_of(made: Consortium) -> tuple[Path, Path]:
    """That the first entry is in the log, and that the newest head extends the first one."""
    home, size = made.home(0), len(entries(made.home(0)))
    (made.folder / "out").mkdir()
    out = ("--out", str(made.folder / "out"))
    one = p2pfl_json(home, "ledger", "prove", "inclusion", "0", *out)
    two = p2pfl_json(home, "ledger", "prove", "consistency", "1", str(size), *out)
    assert two["older_key"] != two["key"]
    assert two["key"] == one["key"]
    return Path(one["file"]), Path(two["file"])
