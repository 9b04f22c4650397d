"""Sites that nobody can dial: their cards, and studies in which two of them would be neighbours."""

from __future__ import annotations

from pathlib import Path

from ops_sites import done, p2pfl

from p2pfl.runtime.config import read_config
from p2pfl.runtime.errors import EXIT_USAGE


def test_a_site_may_announce_no_address_at_all(tmp_path: Path) -> None:
    home = tmp_path / "bonn"
    named = ("init", "--home", home, "--name", "bonn", "--consortium", "heart", "--dial-only")
    both = (*named, "--listen", "127.0.0.1:7105", "--announce", "198.51.100.7:7105")
    assert p2pfl(*both).code == EXIT_USAGE
    done(*named, "--listen", "0.0.0.0:7105")
    assert read_config(home / "config.toml").announce == ()
    done("roster", "create", home / "bonn.card", "-o", tmp_path / "r", "--home", home)
    done("roster", "sign", tmp_path / "r", "--home", home)
    assert "dials only" in done("roster", "show", "--home", home).out


def test_neighbours_of_which_neither_can_be_dialled_are_told_to_both(consortium: Path) -> None:
    one, other = consortium / "site0", consortium / "site1"
    done("roster", "set-address", "--dial-only", "--home", one)
    assert read_config(one / "config.toml").announce == ()
    manifest, proposal = consortium / "study.toml", consortium / "study.study"
    alone = done("study", "validate", manifest, "--home", one, "--json").json
    assert alone["apart"] == ""  # one of the two can be dialled
    done("roster", "set-address", "--dial-only", "--home", other)
    done("roster", "take-card", one / "site0.card", "--home", other)
    done("roster", "take-card", other / "site1.card", "--home", one)
    told = done("study", "propose", manifest, "--home", one)
    words = " ".join(told.out.split())
    assert "site0 and site1 only dial" in words
    assert "site0 has 0 and site1 has 0 of the 1 neighbours that each round needs" in words
    taken = done("study", "import", proposal, "--home", other, "--json").json
    assert any("site0 and site1 only dial" in warning for warning in taken["warnings"])
    for home in (one, other):
        shown = done("study", "show", taken["study"][:12], "--home", home)
        assert "cannot reach each other" in " ".join(shown.out.split())
        assert max(map(len, shown.out.splitlines())) <= 80
