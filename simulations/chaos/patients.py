"""Synthetic patients: a table in which illness depends on two of eight measurements."""

import random
from pathlib import Path
from typing import Final

COLUMNS: Final = 8
SCHEMA: Final = """\
[data]
kind = "tabular"
patients_min = 20
holdout = 0.34
target = { column = "ill", positive_above = 0.0 }
""" + "".join(
    f'[[data.columns]]\nname = "x{index}"\ntype = "number"\nrange = [-3.0, 3.0]\ntypical = 0.0\n'
    for index in range(COLUMNS)
)


def write_patients(path: Path, *, rows: int, seed: int) -> Path:
    """Write a table of patients that the seed decides."""
    drawn = random.Random(seed)  # noqa: S311 - patients that do not exist
    lines = [",".join([*(f"x{index}" for index in range(COLUMNS)), "ill"])]
    for _ in range(rows):
        values = [round(drawn.gauss(0, 1), 3) for _ in range(COLUMNS)]
        ill = int(values[0] + values[1] + drawn.gauss(0, 0.5) > 0)
        lines.append(",".join(map(str, [*values, ill])))
    path.write_text("\n".join(lines) + "\n")
    return path
