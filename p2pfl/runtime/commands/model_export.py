"""A released model as something to hand on: named tensors, a model card, and the proof.

The directory follows the layout of Hugging Face: `README.md` (the model card), `model.safetensors`,
and where it is asked for `model.onnx`.
`manifest.toml` is the study as it was agreed on (its SHA-256 is the study's id), `provenance.json`
the ledger's entry with everything needed to check it without this site. Nothing in it was computed
from patients except the model itself, whose privacy is paid for: no scores, no counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ledger.log import LogReader
from p2pfl.runtime.commands.codes import checked_code
from p2pfl.runtime.commands.model_card import CardFacts, card_facts, render_card
from p2pfl.runtime.commands.model_code import ask_confined, require_runnable, tensors_of
from p2pfl.runtime.commands.models import Released, ask_child, trained_model
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.config import read_config
from p2pfl.runtime.errors import EXIT_CANNOT_CREATE, EXIT_IO, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home, sync_directory, write_durably
from p2pfl.runtime.jsonable import Json

MODEL = "model.safetensors"
ONNX = "model.onnx"
CARD = "README.md"
MANIFEST = "manifest.toml"
PROVENANCE = "provenance.json"


@dataclass(frozen=True, slots=True)
class ModelExport:
    """Export into `out`, which must not exist or be empty. licence: an SPDX id, or "other".

    is_onnx: the model as ONNX, too.
    """

    study: str
    out: Path
    licence: str = "other"
    is_onnx: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What lies where."""

    out: Path
    facts: CardFacts
    files: tuple[str, ...]


def model_export(home: Home, request: ModelExport) -> Exported:
    """Write the directory, whole or not at all. Raises OperatorError."""
    out, licence = request.out, checked_code(request.licence)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OperatorError(
            f"{out} exists and is not an empty directory.",
            fix="Name another directory with --out; nothing is ever overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    model = trained_model(home, request.study)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            # A directory of its own inside: its removal then never meets what was moved away.
            folder = Path(scratch) / "model"
            folder.mkdir(mode=0o755)
            facts = _fill(home, model, folder, licence, is_onnx=request.is_onnx)
            files = tuple(sorted(path.name for path in folder.iterdir()))
            sync_directory(folder)
            folder.replace(out)
        sync_directory(out.parent)
    except OSError as error:
        raise OperatorError(
            f"{out} cannot be written: {error.strerror}.",
            fix="Check the path, its owner and free space; nothing was left behind.",
            exit_code=EXIT_IO,
        ) from error
    return Exported(out, facts, files)


def _fill(home: Home, model: Released, folder: Path, licence: str, *, is_onnx: bool) -> CardFacts:
    asked: dict[str, Json] = {
        "request": "export",
        "manifest": str(home.study(model.manifest.study_id)),
        "model": str(model.vector),
        "out": str(folder / MODEL),
        "onnx": str(folder / ONNX) if is_onnx else "",
        "tensors": _tensors(home, model, is_onnx=is_onnx),
    }
    ask_child("Writing the model", asked)
    for file in (MODEL, ONNX) if is_onnx else (MODEL,):
        os.chmod(folder / file, 0o644)  # made to be handed on
    tensors = hashlib.sha256((folder / MODEL).read_bytes()).digest()
    facts = card_facts(
        model, installed_roster(home), read_config(home.config).name, tensors, licence
    )
    write_durably(folder / CARD, render_card(facts, model.manifest).encode(), mode=0o644)
    write_durably(folder / MANIFEST, model.manifest.raw, mode=0o644)
    write_durably(folder / PROVENANCE, _proof(home, model.seen.seq), mode=0o644)
    return facts


def _tensors(home: Home, model: Released, *, is_onnx: bool) -> list[Json]:
    """Names and shapes that a researcher's text gives its tensors; none of a shipped plan.

    The text is asked confined, without any patient; the file is written by our own code."""
    if model.manifest.foreign is None:
        return []
    if is_onnx:
        raise OperatorError(
            f"{model.seen.name} has a plan of its own, which is not written as ONNX.",
            fix="Leave --onnx out; with the plan's text `torch.onnx` does it from the tensors.",
            exit_code=EXIT_USAGE,
        )
    require_runnable(model.manifest, model.past)
    answer, _ = ask_confined(
        home, model.manifest, "Describing the model", {"request": "describe"}, read=()
    )
    return tensors_of(answer, model.manifest)


def _proof(home: Home, seq: int) -> bytes:
    """The entry, its inclusion under a signed head, and the key that signed, for an outsider."""
    reader = LogReader.open(home.path)
    try:
        size = reader.checkpoint.size
        document = {
            "log_id": reader.log_id.hex(),
            "origin": reader.origin,
            "log_key": str(reader.identity.verifier_key),
            "entry": {"seq": seq, "raw": reader.entry(seq).raw.hex()},
            "leaf": reader.entry(seq).leaf.hex(),
            "head": {"size": size, "note": reader.note.decode()},
            "inclusion": [node.hex() for node in reader.prove_inclusion(seq, size)],
        }
    finally:
        reader.close()
    return (json.dumps(document, indent=2) + "\n").encode()
