"""Released models of studies with a text of their own: tried and handed on under confinement.

Responsible for letting the text run only where it is still approved here, for what its process may
reach, and for believing nothing of what it says: numbers are bounded, predictions are read as a
stranger's and written anew, tensors are laid out by our own code.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.runtime.children import output_of, printable
from p2pfl.runtime.commands.plan_texts import NUMBER_MAX, answer_of, confined_folders
from p2pfl.runtime.confined_child import run_confined
from p2pfl.runtime.errors import EXIT_DATA, EXIT_REFUSED, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.plan_code import check_startable, confinement_for_code
from p2pfl.runtime.policy import allowance_of
from p2pfl.runtime.table_rows import read_rows
from p2pfl.runtime.training_answers import TrainingError

CHILD: Final = "p2pfl.learning.evaluation"
DEADLINE_S: Final = 600.0
PREDICTIONS_BYTES_MAX: Final = 256 << 20
TENSORS_MAX: Final = 10_000
OUT: Final = "predictions"
_TENSOR: Final = re.compile(r"[A-Za-z0-9_.]{1,200}")
_PROBABILITY: Final = re.compile(r"(0\.[0-9]{6}|1\.000000)")


def require_runnable(manifest: Manifest, past: StudyHistory) -> None:
    """Whether the study's text may meet patients here, as at each start. Raises OperatorError."""
    if manifest.bundle is not None:
        raise OperatorError(
            f"{manifest.study.name} ran a bundle, which is not run outside of its study.",
            fix="Its model lies in models/ of this home: final.vector.safetensors, in the order "
            "of the network's parameters.",
            exit_code=EXIT_USAGE,
        )
    try:
        check_startable(manifest, past.code, confinement_for_code())
    except TrainingError as error:
        raise OperatorError(
            f"The text of {manifest.study.name} was not run: {error.message}.",
            fix="`p2pfl study show` shows the text; approve the study again if it may run.",
            exit_code=EXIT_REFUSED,
        ) from error


def ask_confined(
    home: Home,
    manifest: Manifest,
    purpose: str,
    request: Mapping[str, Json],
    *,
    read: Sequence[Path],
) -> tuple[dict[str, Json], bytes]:
    """One question to a confined evaluating process; its answer is hearsay.

    read: what it needs besides the manifest. Returns also the bytes of the file that it wrote.
    Raises OperatorError."""
    with confined_folders(manifest) as (given, work):
        whole = {
            **request,
            "manifest": str(given / "study.toml"),
            "home_layers": str(work / "none"),
            "prepared": str(work / "prepared"),
            "out": str(work / OUT),
        }
        finished = run_confined(
            CHILD,
            given=json.dumps(whole).encode(),
            read=(given, *read),
            work=work,
            deadline_s=DEADLINE_S,
            purpose=purpose,
            allowance=allowance_of(home),
        )
        answer = answer_of(output_of(finished, purpose), purpose)
        return answer, _written(work / OUT)


def _written(path: Path) -> bytes:
    """What the process wrote; nothing where that is no plain file of bearable size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return file.read(PREDICTIONS_BYTES_MAX)


def scores_of(answer: Mapping[str, Json], manifest: Manifest) -> dict[str, Json]:
    """What a text's process says of a model, cut down to what the study names.

    Raises OperatorError."""
    assert manifest.code is not None, "asked of studies with a text"
    ranges = manifest.code.metrics
    said, notes = answer.get("measures"), answer.get("notes")
    if not isinstance(said, dict) or not isinstance(notes, list):
        raise _nonsense("Evaluating the model")
    measures: dict[str, Json] = {}
    for name, (low, high) in ranges.items():
        value = said.get(name)
        if isinstance(value, int | float) and low <= value <= high:
            measures[name] = round(float(value), 4)
    auc = answer.get("auc")
    return {
        "n": _whole(answer.get("n")),
        "headline": "accuracy" if auc is not None else "first measure",
        "score": _within(answer.get("score")),
        "auc": None if auc is None else _within(auc),
        "loss": _number(answer.get("loss")),
        "measures": measures,
        "notes": [printable(str(note)[:500]) for note in notes[:100]],
    }


def predicted_confined(
    home: Home, manifest: Manifest, asked: Mapping[str, Json], read: Sequence[Path]
) -> tuple[dict[str, Json], bytes]:
    """Predictions by a researcher's text: the answer, and the file's bytes as people get it.

    asked: with the paths of table and model; read: what the process needs. Raises OperatorError."""
    answer, raw = ask_confined(home, manifest, "Predicting", asked, read=read)
    whole = predictions_of(raw, Path(str(asked["table"])), str(asked["id_column"]))
    notes = answer.get("notes")
    said = [printable(str(note)[:500]) for note in notes[:100]] if isinstance(notes, list) else []
    return {"rows": whole.count(b"\n") - 1, "notes": list[Json](said)}, whole


def predictions_of(raw: bytes, table: Path, id_column: str) -> bytes:
    """Predictions as they are handed to people: ids from the table itself, read once more here.

    raw: what a text's process wrote, of which only the probabilities are taken over. Raises
    OperatorError unless there is one for each row."""
    (_, header), *rows = read_rows(table)
    place = header.index(id_column) if id_column else -1
    ids = [cells[place] if id_column else str(at) for at, (_, cells) in enumerate(rows, start=1)]
    said = [line.rpartition(b",")[2].decode("ascii", "replace") for line in raw.splitlines()[1:]]
    if len(said) != len(ids) or not all(map(_PROBABILITY.fullmatch, said)):
        raise _nonsense("Predicting")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([id_column or "row", "probability"])
    writer.writerows(zip(ids, said, strict=True))
    return text.getvalue().encode()


def tensors_of(answer: Mapping[str, Json], manifest: Manifest) -> list[Json]:
    """Names and shapes of a text's tensors, if they fit the model. Raises OperatorError."""
    said = answer.get("tensors")
    if not isinstance(said, list) or not 1 <= len(said) <= TENSORS_MAX:
        raise _nonsense("Describing the model")
    names: set[str] = set()
    left = manifest.study.parameters
    for one in said:
        match one:
            case {"name": str(name), "shape": [*shape]} if _TENSOR.fullmatch(name):
                sizes = [size for size in shape if type(size) is int and 0 < size <= left]
                if name in names or len(sizes) != len(shape) or len(shape) > 8:
                    raise _nonsense("Describing the model")
                names.add(name)
                left -= math.prod(sizes)
            case _:
                raise _nonsense("Describing the model")
        if left < 0:
            break
    if left:
        raise _nonsense("Describing the model")
    return said


def _whole(value: Json) -> int:
    if type(value) is int and 0 < value < 1 << 40:
        return value
    raise _nonsense("Evaluating the model")


def _within(value: Json) -> float:
    if isinstance(value, int | float) and 0.0 <= value <= 1.0:
        return round(float(value), 4)
    raise _nonsense("Evaluating the model")


def _number(value: Json) -> float:
    # JSON knows whole numbers that no float holds.
    if isinstance(value, int | float) and -NUMBER_MAX <= value <= NUMBER_MAX:
        return float(f"{value:.4g}")
    raise _nonsense("Evaluating the model")


def _nonsense(purpose: str) -> OperatorError:
    return OperatorError(
        f"{purpose} gave an answer that makes no sense.",
        fix="The study's text writes where only an answer belongs, or its parameters do not fit.",
        exit_code=EXIT_DATA,
    )
