"""What a researcher's text may do to whoever tries it: nothing, whatever it says or writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfl.runtime.children import Finished
from p2pfl.runtime.commands import plan_texts
from p2pfl.runtime.confined_child import SAID_BYTES_MAX, run_confined
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.training_usage import Allowance, is_memory_seen

SCRIPTS = {
    "floods": f"import os\nfor _ in range(40): os.write(1, bytes({SAID_BYTES_MAX} // 10))",
    "complains with signs that a terminal obeys": (
        "import sys; sys.stderr.write('\\x1b[2J\\x1b]0;x\\x07done\\n'); sys.exit(1)"
    ),
    "never ends": "while True: pass",
    "takes memory": "import signal; kept = b'x' * (192 << 20); signal.pause()",
    "asks for more memory than there is": "bytearray(3 << 30)",
    "fills the disk": (
        "import signal\n[open(str(one), 'wb').write(b'x' * (1 << 20)) for one in range(24)]\n"
        "signal.pause()"
    ),
    "starts threads": (
        "import threading, time\nthreading.stack_size(1 << 16)\n"
        "while True: threading.Thread(target=time.sleep, args=(999,), daemon=True).start()"
    ),
    "writes beside its folder": "open('../given/study.toml', 'a')",
    "starts a program": "import os; os.execv('/bin/true', ['true'])",
}


MIB = 1 << 20
ALLOWANCE = Allowance(memory_bytes=96 * MIB, disk_bytes=16 * MIB)


def run(folder: Path, script: str, deadline_s: float = 30.0) -> Finished:
    """A module of that text, started as plans are."""
    given, work = folder / "given", folder / "work"
    given.mkdir()
    work.mkdir()
    (given / "study.toml").write_text("")
    (given / "hostile_module.py").write_text(SCRIPTS[script])
    return run_confined(
        "hostile_module",
        read=(given,),
        work=work,
        deadline_s=deadline_s,
        purpose="Trying the plan",
        allowance=ALLOWANCE,
    )


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "one" / "given"))


def test_too_much_that_is_said_is_refused_and_never_held(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="answered more than"):
        run(tmp_path / "one", "floods")


def test_what_never_ends_is_ended(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="did not finish within 2 s"):
        run(tmp_path / "one", "never ends", 2.0)


@pytest.mark.skipif(not is_memory_seen(), reason="needs /proc")
@pytest.mark.parametrize(
    ("script", "refusal"),
    [
        ("takes memory", "held .* MiB of memory and was ended: this site lets it have 96 MiB"),
        ("fills the disk", "wrote .* MiB to its folder and was ended: this site lets it have 16"),
        ("starts threads", "ran .* threads and was ended: no policy allows more than 1024"),
    ],
)
def test_what_takes_too_much_is_ended_and_the_limit_named(
    tmp_path: Path, script: str, refusal: str
) -> None:
    with pytest.raises(OperatorError, match=f"Trying the plan {refusal}") as refused:
        run(tmp_path / "one", script)
    assert refused.value.exit_code == EXIT_UNAVAILABLE


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("asks for more memory than there is", "MemoryError"),
        ("complains with signs that a terminal obeys", "?[2J?]0;x?done"),
        ("writes beside its folder", "'../given/study.toml'"),
        ("starts a program", "PermissionError: [Errno 1]"),
    ],
)
def test_what_it_complains_is_told_without_harm(
    tmp_path: Path, script: str, complaint: str
) -> None:
    finished = run(tmp_path / "one", script)
    assert finished.code != 0
    assert complaint in finished.complaint
    assert finished.complaint.isprintable()


HONEST = {"arguments": {"hidden": 8}, "steerable": ["hidden"], "measures": {}, "parameters": 7}


@pytest.mark.parametrize(
    "lie",
    [
        {"arguments": 3},
        {"arguments": {"x": None}},
        {"arguments": {'x"]\n[privacy]': 1}},
        {"arguments": {f"a{i}": 1 for i in range(99)}},
        {"steerable": "hidden"},
        {"measures": {"auc = [0, 1]}\ntext": [0, 1]}},
        {"measures": {"auc": [0]}},
        {"measures": {"auc": ["0", "1"]}},
        {"parameters": True},
        {"parameters": "7"},
        {"measures": {"auc": [0, 10**400]}},
        {"arguments": {"hidden": 10**400}},
        {"arguments": {"hidden": float("nan")}},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(lie: dict[str, object]) -> None:
    raw = json.dumps(HONEST | lie).encode()
    with pytest.raises(OperatorError, match="makes no sense"):
        plan_texts.tried_of(raw)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"[" * 100_000, b"9" * 9_000, b"\xff"])
def test_an_answer_that_is_no_map_is_refused(raw: bytes) -> None:
    with pytest.raises(OperatorError, match="makes no sense"):
        plan_texts.tried_of(raw)


def test_an_honest_answer_is_taken() -> None:
    tried = plan_texts.tried_of(json.dumps(HONEST).encode())
    assert (dict(tried.arguments), tried.steerable) == ({"hidden": 8}, frozenset({"hidden"}))
