"""What a person asks an audit for, in their words, turned into what the audit takes."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ledger.log import LedgerError, LogReader, OnDamage
from ledger.log.witness_store import WITNESS_NAME
from ledger.provenance.findings import Scope
from ledger.provenance.kinds import ModelReleased
from p2pfl.runtime.commands.ledger_reading import study_names
from p2pfl.runtime.errors import EXIT_NO_INPUT, EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home

NETWORK: Final = "network"
"""What other sites sent to the running node: it stands in the home's own witness.db."""
PREFIX_DIGITS_MIN: Final = 6


def peers_asked(home: Home, named: Sequence[str]) -> tuple[Path, ...] | None:
    """The files to compare with; None where no comparison was asked for.

    Raises OperatorError where the network was named and nothing came from it yet."""
    if not named:
        return None
    if NETWORK in named and not (home.path / WITNESS_NAME).is_file():
        raise OperatorError(
            "No node has heard anything from other sites in this home yet.",
            fix="Start the node (`p2pfl node start`), or give other sites' homes: --peers PATH.",
            exit_code=EXIT_NO_INPUT,
        )
    return tuple(Path(name).expanduser() for name in named if name != NETWORK)


def scope_asked(home: Home, *, study: str, model: str, since: str) -> Scope:
    """The scope of a report. Raises OperatorError for what this ledger does not know."""
    named = study_names(home)
    studies, models = _in_log(home)
    by_name = [key for key, name in named.items() if study and name == study]
    chosen_study = by_name[0] if len(by_name) == 1 else b""
    if study and not chosen_study:
        chosen_study = _only("study", study, {*named, *studies}, "p2pfl study list")
    return Scope(
        study=chosen_study,
        model=_only("released model", model, models, "p2pfl model list") if model else b"",
        since_us=_day_us(since) if since else 0,
    )


def _in_log(home: Home) -> tuple[set[bytes], set[bytes]]:
    """Studies and released models that the entries name, as far as they can be read."""
    studies, models = set[bytes](), set[bytes]()
    try:
        reader = LogReader.open(home.path, on_damage=OnDamage.SHOW)
    except LedgerError:
        return studies, models  # the audit itself says what is wrong with it
    try:
        for entry in reader.entries():
            study, released = entry.body.get("study"), entry.body.get("hash")
            studies |= {study} if isinstance(study, bytes) else set()
            if entry.kind == ModelReleased.KIND and isinstance(released, bytes):
                models.add(released)
    except LedgerError:
        pass  # up to the damage, which the audit tells of
    finally:
        reader.close()
    return studies, models


def _only(what: str, prefix: str, known: Iterable[bytes], where: str) -> bytes:
    text = prefix.strip().lower()
    found = [key for key in known if len(text) >= PREFIX_DIGITS_MIN and key.hex().startswith(text)]
    if len(found) == 1:
        return found[0]
    raise OperatorError(
        f'"{prefix}" is no {what} of this ledger.'
        if not found
        else f'{len(found)} of this ledger begin with "{prefix}".',
        fix=f"Give {PREFIX_DIGITS_MIN} hex digits or more of one; `{where}` shows them.",
        exit_code=EXIT_NO_INPUT,
    )


def _day_us(text: str) -> int:
    try:
        day = datetime.date.fromisoformat(text.strip())
    except ValueError as error:
        raise OperatorError(
            f'"{text}" is no day.',
            fix="Give --since a day as 2026-01-31; it begins at midnight UTC.",
            exit_code=EXIT_USAGE,
        ) from error
    start = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return int(start.timestamp()) * 1_000_000
