"""Print the kinds of entries for docs/protocol.md: who may read each, and what its body holds.

    .venv/bin/python scripts/entry_kinds.py

A test compares the document with this output."""

import textwrap
from typing import Any

from ledger.provenance.fields import (
    INT_MAX,
    Bytes,
    DigestOrNone,
    Integer,
    Many,
    Number,
    OneOf,
    Part,
    SignatureOrNone,
    Spec,
    Text,
    Words,
    layout_of,
)
from ledger.provenance.kinds import CLASSES, GENESIS_KIND, TrainDone
from ledger.provenance.readers import readers_of

INDENT = 4
WIDTH = 100
INSIDE_DP = ("eps_u", "eps_total_u")


def range_in_words(spec: Integer) -> str:
    """Which integers."""
    if spec.highest < INT_MAX:
        return f"{spec.lowest}…{spec.highest}"
    return {0: "int", -1: "int≥−1"}.get(spec.lowest, "±int")


def in_words(spec: Spec) -> str:
    """What a field may hold."""
    match spec:
        case Bytes(length):
            return "hash" if length == 32 else f"{length} bytes"
        case Integer():
            return range_in_words(spec)
        case Text():
            return "code"
        case Number():
            return "decimal"
        case OneOf(words):
            return "|".join(words)
        case Words():
            return "{name: code…}"
        case Many(item, count_max):
            return f"[{in_words(item)}…≤{count_max}]"
        case Part(of):
            return fields_in_words(layout_of(of))
        case DigestOrNone():
            return "hash"
        case SignatureOrNone():
            return "64 bytes"
        case _:
            raise AssertionError(f"a spec that this script does not know: {spec}")


def fields_in_words(layout: dict[str, Spec]) -> str:
    """A body or a part of one; "?" where a field may be absent."""
    names = {
        key: key + "?" * isinstance(layout[key], DigestOrNone | SignatureOrNone) for key in layout
    }
    return "{" + ", ".join(f"{names[key]}: {in_words(layout[key])}" for key in sorted(layout)) + "}"


def body_in_words(kind: type[Any]) -> str:
    """The body of a kind."""
    layout = layout_of(kind)
    if kind is not TrainDone:
        return fields_in_words(layout)
    # Here ε stands inside the terms that it follows from.
    dp = layout.pop("dp")
    assert isinstance(dp, Part)
    spent = {key: layout.pop(key) for key in INSIDE_DP}
    steps = layout.pop("steps")
    assert isinstance(steps, Integer)
    level = layout.pop("level")
    assert isinstance(level, OneOf)
    said = {"level?": OneOf(tuple(filter(None, level.words))), "steps?": Integer(1, steps.highest)}
    whole = fields_in_words({**layout, "dp": Text(), **said})
    return whole.replace("dp: code", "dp: " + fields_in_words({**layout_of(dp.of), **spent}))


def main() -> None:
    """Print a paragraph for each kind."""
    print(f"{GENESIS_KIND} (everyone)\n    see Entries")
    for kind in CLASSES:
        print(f"{kind} ({readers_of(kind).value})")
        text = body_in_words(CLASSES[kind])
        for line in textwrap.wrap(
            text, WIDTH - INDENT, break_long_words=False, break_on_hyphens=False
        ):
            print(" " * INDENT + line)


if __name__ == "__main__":
    main()
