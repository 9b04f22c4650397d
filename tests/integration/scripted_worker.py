"""A training process without torch, and without manners when told so: see BEHAVIOURS.

`python scripted_worker.py BEHAVIOUR --parent PID` speaks the node's protocol. A round of training
adds a constant to the model."""

from __future__ import annotations

import array
import contextlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgpack

HEADER_BYTES = 8


def read() -> dict[str, Any]:
    """The node's next request."""
    length = sys.stdin.buffer.read(4)
    if len(length) < 4:
        sys.exit(0)
    frame: dict[str, Any] = msgpack.unpackb(sys.stdin.buffer.read(int.from_bytes(length, "big")))
    return frame


def write(message: Any) -> None:
    """One frame with whatever in it."""
    write_raw(msgpack.packb(message))


def write_raw(body: bytes, length: int | None = None) -> None:
    size = len(body) if length is None else length
    sys.stdout.buffer.write(size.to_bytes(4, "big") + body)
    sys.stdout.buffer.flush()


def vector(path: str) -> array.array[float]:
    data = Path(path).read_bytes()
    return array.array("f", data[HEADER_BYTES + int.from_bytes(data[:8], "little") :])


def store(path: str, values: array.array[float]) -> None:
    count = len(values)
    text = f'{{"vector":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{4 * count}]}}}}'
    header = text.encode().ljust(-(-len(text) // 8) * 8)
    Path(path).write_bytes(len(header).to_bytes(8, "little") + header + values.tobytes())


def answer(request: dict[str, Any], behaviour: str) -> None:
    echoed = {"id": request["id"]}
    match request["op"]:
        case "open":
            manifest = tomllib.loads(request["manifest"].decode())
            opened = {
                **echoed,
                "op": "opened",
                "parameters": manifest["study"]["parameters"],
                "code_hash": bytes(32),
                "env_hash": bytes(32),
            }
            BEHAVIOURS.get(f"open-{behaviour}", write)(opened)
        case "train":
            values = array.array("f", (v + 0.125 for v in vector(request["base"])))
            store(request["out"], values)
            trained = {
                **echoed,
                "op": "trained",
                "mech": "none",
                "sigma": "0",
                "q": "0",
                "clip": "0",
                "steps": 2,
                "planned": 2,
                "loss": 0.5,
                "seconds": 0.0,
            }
            BEHAVIOURS.get(f"train-{behaviour}", lambda said: write(said))(
                {**trained, "out": request["out"]}
            )
        case "score":
            write({**echoed, "op": "scored", "auc": 0.75, "accuracy": 0.5, "loss": 0.5, "n": 20})
        case "release":
            Path(request["model_out"]).write_bytes(b"a model")
            Path(request["holdout_out"]).write_bytes(b"a hold-out")
            write({**echoed, "op": "released"})
        case "close":
            write({**echoed, "op": "closed"})
            sys.exit(0)


def replaced(**fields: Any) -> Any:
    return lambda said: write({**said, **fields})


def lacking(field: str) -> Any:
    return lambda said: write({k: v for k, v in said.items() if k != field})


def crash(_said: Any) -> None:
    sys.stderr.write("Segmentation fault, or so\n")
    sys.stderr.flush()
    os._exit(11)


def silent(_said: Any) -> None:
    """Never answers."""


def filling(_said: Any) -> None:
    """Writes more than it may, then never answers."""
    Path("filled").write_bytes(bytes(16 << 20))


def orphaning(said: Any) -> None:
    """Leaves something behind that holds the pipes from outside the process group."""
    subprocess.Popen(["sleep", "5"], start_new_session=True)
    write(said)


def flooding(_said: Any) -> None:
    """Answers for ever what nobody asked."""
    while True:
        write({"id": 1 << 40, "op": "opened"})


def nesting(said: Any) -> None:
    """Leaves folders that a walk down into them does not reach the end of, then answers."""
    here = os.getcwd()
    for _ in range(1500):
        os.mkdir("x", 0o300)
        os.chdir("x")
    os.chdir(here)
    write(said)


def remade(make: Any) -> Any:
    """Answers properly, with something else in place of the update."""

    def behave(said: Any) -> None:
        path = Path(said["out"])
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        make(path)
        write(said)

    return behave


def with_nan(path: Path) -> None:
    store(str(path), array.array("f", [float("nan")] * 9))


BEHAVIOURS: dict[str, Any] = {
    "open-no-parameters": lacking("parameters"),
    "open-parameters-text": replaced(parameters="nine"),
    "open-parameters-huge": replaced(parameters=2**63),
    "open-hash-short": replaced(code_hash=b"short"),
    "open-hash-number": replaced(env_hash=32),
    "open-crash": crash,
    "open-silent": silent,
    "open-orphaning": orphaning,
    "open-flooding": flooding,
    "open-nesting": nesting,
    "open-claiming": lambda said: write({**said, "op": "failed", "code": "memory-limit"}),
    "open-number": lambda said: write(7),
    "open-list": lambda said: write([said]),
    "open-id-list": lambda said: write({**said, "id": [1]}) or crash(said),
    "open-not-msgpack": lambda said: write_raw(b"\xc1\xc1"),
    "open-huge-frame": lambda said: write_raw(b"", length=2**32 - 1),
    "open-cut-frame": lambda said: write_raw(b"\x80", length=1000) or crash(said),
    "open-nested": lambda said: write_raw(b"\x91" * 100_000),
    "open-bytes-keys": lambda said: write({b"op": b"opened"}),
    "open-noisy": lambda said: sys.stderr.write("x" * 5_000_000) and write(said),
    "train-crash": crash,
    "train-filling": filling,
    "train-no-loss": lacking("loss"),
    "train-steps-text": replaced(steps="two"),
    "train-sigma-long": replaced(sigma="1" * 5000),
    "train-mech-bytes": replaced(mech=b"none"),
    "train-nothing-written": remade(lambda path: None),
    "train-nan": remade(with_nan),
    "train-short": remade(lambda path: path.write_bytes(b"short")),
    "train-endless": remade(lambda path: path.symlink_to("/dev/zero")),
    "train-link": remade(lambda path: path.symlink_to("/etc/passwd")),
    "train-pipe": remade(lambda path: os.mkfifo(path)),
    "train-folder": remade(lambda path: path.mkdir()),
    "train-huge": remade(lambda path: path.write_bytes(bytes(1 << 20))),
}
"""`open-X` and `train-X`: what happens instead of an honest answer to that request."""


if __name__ == "__main__":
    while True:
        answer(read(), sys.argv[1])
