"""The training process through its frames, and its death with the node."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest
from learn_child import Child
from learn_manifests import LOGISTIC, MLP, POISSON, PRIVATE, manifest, manifest_bytes

from p2pfl.learning.demo_terms import CANCER_TERMS
from p2pfl.learning.fingerprints import code_hash
from p2pfl.learning.initial import initial_model
from p2pfl.learning.vector import read_vector, write_vector
from p2pfl.learning.worker import Worker
from p2pfl.runtime.environment import env_hash

D_MLP = 2114
RANGES = {"learning_rate": [0.01, 2.0]}


def opening(dataset: Path, **changes: object) -> dict[str, object]:
    manifest = manifest_bytes(
        CANCER_TERMS, plan="tabular-mlp", arguments=MLP, ranges=RANGES, **changes
    )
    return {
        "manifest": manifest,
        "dataset": str(dataset),
        "patient_column": "patient",
        "denominator": 100,
        "threads": 1,
    }


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_vector(
        tmp_path / "base", initial_model(manifest(CANCER_TERMS, plan="tabular-mlp", arguments=MLP))
    )
    return tmp_path / "base"


def test_three_rounds_train_score_and_release(
    new_child: Callable[..., Child], cancer_csvs: tuple[Path, ...], base: Path, tmp_path: Path
) -> None:
    child = new_child("--parent", str(os.getpid()))
    opened = child.ask("open", **opening(cancer_csvs[1]))
    assert opened["op"] == "opened"
    assert opened["parameters"] == D_MLP
    assert opened["code_hash"] == code_hash()
    assert opened["env_hash"] == env_hash()
    assert opened["patients_train"] == 140
    assert opened["patients_holdout"] == 73
    assert opened["notes"] == []
    losses = []
    for round_ in range(3):
        out = tmp_path / f"out{round_}"
        done = child.ask("train", round=round_, base=str(base), out=str(out), arguments={})
        assert done["op"] == "trained"
        assert (done["mech"], done["sigma"], done["q"], done["clip"]) == ("none", "0", "0", "0")
        assert done["steps"] == 10
        losses.append(done["loss"])
        base = out
    assert losses[0] > losses[1] > losses[2]
    scored = child.ask("score", model=str(base))
    assert scored["op"] == "scored"
    assert scored["n"] == 73
    assert scored["auc"] > 0.95
    released = child.ask(
        "release",
        model=str(base),
        model_out=str(tmp_path / "final.safetensors"),
        holdout_out=str(tmp_path / "holdout.csv"),
    )
    assert released["op"] == "released"
    assert Path(released["holdout_path"]).read_text().count("\n") == 74
    assert child.ask("close")["op"] == "closed"
    assert child.process.wait(120) == 0


@pytest.mark.parametrize(
    ("privacy", "mech", "q"), [(PRIVATE, "gaussian", "1.0"), (POISSON, "poisson", "0.3")]
)
def test_a_private_round_says_what_it_released(
    new_child: Callable[..., Child],
    cancer_csvs: tuple[Path, ...],
    base: Path,
    tmp_path: Path,
    privacy: dict[str, object],
    mech: str,
    q: str,
) -> None:
    child = new_child()
    assert child.ask("open", **opening(cancer_csvs[1], privacy=privacy))["op"] == "opened"
    models = []
    for round_ in range(2):
        out = tmp_path / f"out{round_}"
        done = child.ask("train", round=round_, base=str(base), out=str(out), arguments={})
        assert (done["mech"], done["q"]) == (mech, q)
        assert (done["sigma"], done["clip"], done["steps"]) == ("9.1", "2.0", 1)
        models.append(read_vector(out, D_MLP) - read_vector(base, D_MLP))
    assert models[0].std() == pytest.approx(0.1 * 9.1 * 2.0 / (100 * float(q)), rel=0.1)
    assert np.abs(np.corrcoef(models[0], models[1])[0, 1]) < 0.9
    assert child.end() == 0


def test_a_refused_request_leaves_the_process_usable(
    child: Child, cancer_csvs: tuple[Path, ...], base: Path, tmp_path: Path
) -> None:
    def failed(code: str, part: str, answer: dict[str, object]) -> None:
        assert answer["op"] == "failed", answer
        assert answer["code"] == code, answer
        assert part in str(answer["message"]), answer

    good = opening(cancer_csvs[0])
    failed("request", "no study is open", child.ask("train", round=0))
    failed("request", "no request 'dance'", child.ask("dance"))
    failed("request", 'has no "manifest"', child.ask("open", threads=1))
    failed("request", '"threads" is 0', child.ask("open", **{**good, "threads": 0}))
    failed("request", '"threads" is bool', child.ask("open", **{**good, "threads": True}))
    failed("request", '"dataset" is int', child.ask("open", **{**good, "dataset": 3}))
    failed("request", '"manifest" is str', child.ask("open", **{**good, "manifest": "x"}))
    failed("manifest", "not TOML", child.ask("open", **{**good, "manifest": b"]"}))
    failed("data", "cannot be read", child.ask("open", **{**good, "dataset": "/none.csv"}))
    wrong_plan = good["manifest"].replace(b"tabular-mlp", b"tabular-mlq")  # type: ignore[attr-defined]
    failed("plan", "did you mean", child.ask("open", **{**good, "manifest": wrong_plan}))
    assert child.ask("open", **good)["op"] == "opened"
    failed("request", "already open", child.ask("open", **good))
    train = {"round": 0, "base": str(base), "out": str(tmp_path / "out"), "arguments": {}}
    failed("model", "cannot read", child.ask("train", **{**train, "base": "/none"}))
    failed("request", '"arguments" is int', child.ask("train", **{**train, "arguments": 1}))
    wrong: dict[str, object] = {**train, "arguments": {"momentum": [1]}}
    failed("request", '"arguments" holds', child.ask("train", **wrong))
    wrong = {**train, "arguments": {"momentum": 0.1}}
    failed("plan", "no approved range", child.ask("train", **wrong))
    failed("file", "No such file", child.ask("train", **{**train, "out": "/none/x"}))
    assert child.ask("train", **{**train, "arguments": {"learning_rate": 0.2}})["op"] == "trained"


def test_bytes_that_are_no_request_are_answered_and_skipped(child: Child) -> None:
    for raw in (
        b"\xc1",
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        msgpack.packb({"a": 1})[:-1],
    ):
        child.send(len(raw).to_bytes(4, "big") + raw)
        answer = child.answer()
        assert (answer["op"], answer["code"]) == ("failed", "request")
    assert child.ask("dance")["op"] == "failed"


def test_an_oversized_frame_ends_the_process(new_child: Callable[..., Child]) -> None:
    child = new_child()
    child.send((1 << 20 | 1).to_bytes(4, "big"))
    assert "at most 1048576" in str(child.answer()["message"])
    assert child.process.wait(120) == 2


def test_the_process_ends_with_its_stdin(new_child: Callable[..., Child]) -> None:
    child = new_child("--parent", str(os.getpid()))
    child.send(b"\0\0")  # half a length field
    assert child.end() == 0


def test_a_process_whose_parent_is_already_gone_does_not_start() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "p2pfl.learning.worker", "--parent", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, b"")


def test_ctrl_c_is_left_to_the_node(child: Child) -> None:
    assert child.ask("dance")["op"] == "failed"  # it is up, so the signal is already ignored
    child.process.send_signal(signal.SIGINT)
    assert child.ask("dance")["op"] == "failed"


def test_a_killed_node_takes_its_training_process_along() -> None:
    """The worker's stdin stays open here, so only the kernel's signal can end it."""
    requests_read, requests_write = os.pipe()
    answers_read, answers_write = os.pipe()
    node_program = (
        "import os, subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'p2pfl.learning.worker',\n"
        "    '--parent', str(os.getpid())], stdin=int(sys.argv[1]), stdout=int(sys.argv[2]))\n"
        "print(worker.pid, flush=True)\n"
        "worker.wait()\n"
    )
    node = subprocess.Popen(
        [sys.executable, "-c", node_program, str(requests_read), str(answers_write)],
        pass_fds=(requests_read, answers_write),
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(requests_read)
    os.close(answers_write)
    assert node.stdout is not None
    worker = psutil.Process(int(node.stdout.readline()))
    request = msgpack.packb({"op": "dance", "id": 1})
    os.write(requests_write, len(request).to_bytes(4, "big") + request)
    assert os.read(answers_read, 4), "the worker is up and serving"
    end_of_worker = os.pidfd_open(worker.pid)
    node.kill()
    node.wait()
    assert select.select([end_of_worker], [], [], 10)[0], "the worker outlived its node"
    for descriptor in (end_of_worker, requests_write, answers_read):
        os.close(descriptor)
    node.stdout.close()


def test_prints_of_libraries_do_not_reach_the_frames() -> None:
    program = (
        "import os\n"
        "from p2pfl.learning import worker\n"
        "from p2pfl.learning.frames import write_frame\n"
        "requests, answers = worker._private_streams()\n"
        "print('from python', flush=True)\n"
        "os.write(1, b'from C')\n"
        "os.system('echo from a child')\n"
        "assert os.read(0, 10) == b''\n"
        "write_frame(answers, {'rest': requests.read().decode()})\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], input=b"kept", capture_output=True, timeout=120, check=True
    )
    body = msgpack.packb({"rest": "kept"})
    assert ended.stdout == len(body).to_bytes(4, "big") + body
    for text in (b"from python", b"from C", b"from a child"):
        assert text in ended.stderr


def test_our_own_bug_is_told_without_its_traceback_and_closes_the_study(
    cancer_csvs: tuple[Path, ...], base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(torch_s=0.0)
    assert worker.answer({"op": "open", "id": 1, **opening(cancer_csvs[0])})["op"] == "opened"
    # A path with a zero byte is nothing the node sends; no rule of ours foresees it.
    train = {"round": 0, "base": "nul\0byte", "out": str(base), "arguments": {}}
    answer = worker.answer({"op": "train", "id": 2, **train})
    assert answer["code"] == "internal"
    assert answer["message"] == "unexpected ValueError, see the log"
    assert "Traceback" in capsys.readouterr().err
    assert "no study is open" in str(worker.answer({"op": "score", "id": 3})["message"])


def test_a_worse_model_is_told_from_chance_on_the_hold_out(
    cancer_csvs: tuple[Path, ...], base: Path, tmp_path: Path
) -> None:
    worker = Worker(torch_s=0.0)
    worker.answer({"op": "open", "id": 1, **opening(cancer_csvs[0])})
    trained, hostile = tmp_path / "trained", tmp_path / "hostile"
    worker.answer(
        {"op": "train", "id": 2, "round": 0, "base": str(base), "out": str(trained)}
        | {"arguments": {}}
    )
    write_vector(hostile, -read_vector(trained, D_MLP))

    def compared(before: Path, mixed: Path) -> tuple[float, float]:
        answer = worker.answer({"op": "compare", "id": 3, "base": str(before), "mixed": str(mixed)})
        assert answer["op"] == "compared", answer
        return answer["change"], answer["band"]

    assert compared(trained, trained) == (0.0, 0.0)
    rise, band = compared(trained, hostile)
    assert rise > band > 0.0
    fall, band = compared(base, trained)
    assert fall < 0.0 < band


def test_a_private_study_compares_no_models_on_patients(
    cancer_csvs: tuple[Path, ...], base: Path
) -> None:
    worker = Worker(torch_s=0.0)
    worker.answer({"op": "open", "id": 1, **opening(cancer_csvs[0], privacy=PRIVATE)})
    answer = worker.answer({"op": "compare", "id": 2, "base": str(base), "mixed": str(base)})
    assert (answer["op"], answer["code"]) == ("failed", "request")
    assert "no hold-out guard" in str(answer["message"])


def test_the_logistic_plan_opens_with_the_contract_s_arguments(
    new_child: Callable[..., Child], cancer_csvs: tuple[Path, ...]
) -> None:
    arguments = {**LOGISTIC, "hidden": 64, "weight_decay": 0.0}
    request = opening(cancer_csvs[0])
    request["manifest"] = manifest_bytes(CANCER_TERMS, arguments=arguments)
    child = new_child()
    assert child.ask("open", **request)["parameters"] == 31
    assert child.end() == 0
