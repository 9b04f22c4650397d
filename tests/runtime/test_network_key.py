"""A home's network key: made once, taken by the others, in force where config.toml says so."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gossip.network_key import network_fingerprint
from p2pfl.runtime.commands.doctoring import Level
from p2pfl.runtime.commands.doctoring_network import check_network_key
from p2pfl.runtime.config import make_config, read_config, render_config
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home, create_directories
from p2pfl.runtime.network_key import (
    make_network_key,
    network_key_file,
    network_key_of,
    take_network_key,
)


def home_at(path: Path, *, covered: bool = True) -> Home:
    home = Home(path)
    create_directories(home)
    config = make_config("north", "127.0.0.1:7100", (), "hearts")
    home.config.write_bytes(render_config(replace(config, network_key=covered)))
    return home


def key_of(home: Home) -> bytes | None:
    return network_key_of(home, read_config(home.config))


def test_one_member_makes_it_and_the_others_take_it(tmp_path: Path) -> None:
    one, other = home_at(tmp_path / "one"), home_at(tmp_path / "other")
    made = make_network_key(one, os.urandom)
    assert network_key_file(one).stat().st_mode & 0o777 == 0o600
    assert take_network_key(other, network_key_file(one)) == made
    assert key_of(one) == key_of(other) == made
    take_network_key(other, network_key_file(one))  # again: nothing new
    with pytest.raises(OperatorError, match="another network key, which is not overwritten"):
        make_network_key(other, os.urandom)
    (check,) = check_network_key(one)
    assert check.level is Level.OK
    assert network_fingerprint(made) in check.sentence


def test_a_home_without_the_line_has_no_key_and_the_doctor_wonders(tmp_path: Path) -> None:
    home = home_at(tmp_path / "home", covered=False)
    assert not list(check_network_key(home))
    make_network_key(home, os.urandom)
    assert key_of(home) is None
    (check,) = check_network_key(home)
    assert check.level is Level.WARN


def test_a_node_is_refused_without_a_sound_key_that_it_should_have(tmp_path: Path) -> None:
    home = home_at(tmp_path / "home")
    with pytest.raises(OperatorError, match=r"swarm\.key does not exist") as missing:
        key_of(home)
    assert "keys network take" in missing.value.fix
    path = network_key_file(home)
    path.write_text("something else")
    path.chmod(0o600)
    with pytest.raises(OperatorError, match="is no network key"):
        key_of(home)
    path.chmod(0o644)
    with pytest.raises(OperatorError, match="mode 0644"):
        key_of(home)
    with pytest.raises(OperatorError, match="is no network key"):
        take_network_key(home, path)
