"""One line of the node's log as a sentence for people.

What other sites can influence (addresses, reasons, names) is shown without control characters: a
log must not be able to command the terminal.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from p2pfl.runtime.jsonable import Json
    from p2pfl.runtime.node_log import LogLine

WIDTH: Final = 80
_CLOCK: Final = slice(11, 19)
_DAY: Final = slice(0, 10)
_VALUE_CHARACTERS_MAX: Final = 200


def day_of(line: LogLine) -> str:
    """The date of a line, UTC."""
    return printable(line.time[_DAY])


def shown(line: LogLine, *, of_one_study: bool = False) -> str:
    """Clock and sentence, wrapped to 80 columns. of_one_study: nobody has to be told which."""
    clock = printable(line.time[_CLOCK])
    return textwrap.fill(
        sentence(line, of_one_study=of_one_study),
        WIDTH,
        initial_indent=f"{clock}  ",
        subsequent_indent=" " * (len(clock) + 2),
        break_on_hyphens=False,
    )


def sentence(line: LogLine, *, of_one_study: bool = False) -> str:
    """What happened, without the time."""
    study = "" if of_one_study else line.text("study")[:6]
    of_study = f"{printable(study)}: " if study else ""
    match line.event:
        case "round_done":
            return of_study + round_words(line, gap="  " if of_one_study else " ")
        case "node_ready":
            return f"the node listens on {printable(line.text('listen'))}"
        case "node_stopped":
            return "the node stopped"
        case "refused":
            source, reason = printable(line.text("source")), printable(line.text("reason"))
            return f"turned away {source}: {reason} (×{line.fields.get('count', 1)})"
        case _ if line.text("sentence"):
            return of_study + printable(line.text("sentence"))
        case event:
            fields = ", ".join(
                f"{printable(name)}={_value(value)}" for name, value in line.fields.items()
            )
            return f"{printable(event)} {fields}".rstrip()


def round_words(line: LogLine, *, gap: str) -> str:
    """The progress of a round, in a few columns with a gap between them."""
    auc, loss, eps = (line.number(name) for name in ("auc", "loss", "eps_total_u"))
    number = (line.number("round") or 0) + 1
    phase = line.text("phase")
    words = {"training": f"loss {loss or 0:.3f}", "catch-up": "caught up"}
    work = words.get(phase, "mixing")
    score = "AUC -" if auc is None else f"AUC {auc:.3f}"
    spent = f"ε {(eps or 0) / 1e6:.3f}" if eps or phase != "training" else "no DP"
    heard = f"heard {line.fields.get('heard', '?')}/{line.fields.get('expected', '?')}"
    took = f"{line.number('round_s') or 0:.2f} s"
    rounds = line.number("rounds") or 0
    return gap.join([f"round {number:.0f}/{rounds:.0f}", work, score, heard, spent, took])


def printable(text: str) -> str:
    """Without what could move a cursor or hide itself."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _value(value: Json) -> str:
    text = printable(value if isinstance(value, str) else str(value))
    shortened = text[:_VALUE_CHARACTERS_MAX]
    return shortened if shortened == text else shortened + "…"
