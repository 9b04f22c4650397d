"""Files of models that nothing asks for any more go; whatever may yet be resumed stays."""

import os
from pathlib import Path

import pytest

from p2pfl.core.history import History, Published
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.runtime.leftovers import LOOKS, UNNAMED_S, Parts, unnamed

STUDY, OTHER, SITE = StudyId(b"\x01" * 32), StudyId(b"\x02" * 32), b"\x03" * 32
MODEL, LATER = b"\x04" * 32, b"\x05" * 32
NOW_S = 1_800_000_000.0


def part(folder: Path, study: StudyId, model: bytes) -> Path:
    path = folder / study.hex() / SITE.hex() / f"{model.hex()}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    return path


def test_parts_of_a_study_that_is_over_go_at_once(tmp_path: Path) -> None:
    gone, stays = part(tmp_path, OTHER, MODEL), part(tmp_path, STUDY, MODEL)
    assert Parts(tmp_path).sweep({STUDY: frozenset({MODEL})}, frozenset()) == 1
    assert not gone.parent.parent.exists()
    assert stays.exists()


def test_a_part_whose_round_is_over_goes_after_several_looks(tmp_path: Path) -> None:
    old, wanted = part(tmp_path, STUDY, MODEL), part(tmp_path, STUDY, LATER)
    parts = Parts(tmp_path)
    removed = [parts.sweep({STUDY: frozenset({LATER})}, frozenset()) for _ in range(LOOKS)]
    assert removed == [0] * (LOOKS - 1) + [1]
    assert (old.exists(), wanted.exists()) == (False, True)


def test_a_part_that_is_wanted_again_meanwhile_stays(tmp_path: Path) -> None:
    path, parts = part(tmp_path, STUDY, MODEL), Parts(tmp_path)
    for look in range(3 * LOOKS):
        is_offered = look % LOOKS == 0
        parts.sweep({STUDY: frozenset({MODEL} if is_offered else ())}, frozenset())
    assert path.exists()


@pytest.mark.parametrize("is_running", [False, True])
def test_after_a_start_and_during_a_transfer_every_part_stays(
    tmp_path: Path, is_running: bool
) -> None:
    path, parts = part(tmp_path, STUDY, MODEL), Parts(tmp_path)
    for _ in range(2 * LOOKS):
        if is_running:
            parts.sweep({STUDY: frozenset()}, frozenset({STUDY}))
        else:
            parts.sweep({STUDY: None}, frozenset())
    assert path.exists()


def test_nothing_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert Parts(tmp_path / "incoming").sweep({}, frozenset()) == 0


def test_a_model_that_nothing_ever_named_goes_after_a_month(tmp_path: Path) -> None:
    history = History()
    history.study(STUDY).published[Round(0)] = Published(ModelHash(b"\x06" * 32), 4, 0, 0, b"")
    paths = {}
    for digest in (MODEL, LATER, b"\x06" * 32, b"\x07" * 32):
        paths[digest] = tmp_path / digest.hex()
        paths[digest].write_bytes(b"model")
        age_s = 3_600.0 if digest == LATER else UNNAMED_S + 3_600.0
        os.utime(paths[digest], (NOW_S - age_s, NOW_S - age_s))
    (tmp_path / "README").write_text("not a model")
    found = unnamed(tmp_path.iterdir(), history, frozenset({b"\x07" * 32}), NOW_S)
    assert found == {MODEL}
