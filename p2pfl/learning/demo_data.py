"""Tables for the demonstration: `python -m p2pfl.learning.demo_data --out DIR`.

Responsible for writing one CSV file per site and the matching [data] terms as TOML. From there on
the demonstration uses the ordinary commands on ordinary files.

Breast cancer (569 patients, part of scikit-learn) is spread over N sites by a non-IID rule:
every site gets 8 patients of each label; site sizes are drawn from Dirichlet(4, …, 4), and the
other patients of each label go to the sites by a draw from Dirichlet(2·N·sizes), all from the seed.
So sites differ in size and in their share of malignant tumours.

Heart disease (`--heart DIR`) reads the four processed.*.data files of the UCI repository as they
are: four real hospitals, nothing spread or changed; a running patient number is added.

Prints JSON `{sites: [{name, csv, patients}], terms, patient_column}`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import DataTerms
from p2pfl.core.manifest_writing import render_data
from p2pfl.learning.demo_terms import (
    CANCER_PATIENT_COLUMN,
    CANCER_TARGET,
    CANCER_TERMS,
    HEART_FILE_COLUMNS,
    HEART_PATIENT_COLUMN,
    HEART_TERMS,
)
from p2pfl.learning.errors import DataRefused

SITES_MAX: Final = 16
LABEL_PATIENTS_MIN: Final = 8
HEART_FILES: Final = (
    ("cleveland", "processed.cleveland.data"),
    ("hungary", "processed.hungarian.data"),
    ("switzerland", "processed.switzerland.data"),
    ("va", "processed.va.data"),
)


@dataclass(frozen=True, slots=True)
class DemoSite:
    """One site's table, as text cells below a header."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def cancer_sites(sites: int, seed: int) -> tuple[DemoSite, ...]:
    """Spread scikit-learn's breast-cancer patients over `sites` (1 … 16) sites.

    The same seed gives the same tables. Raises DataRefused if the data set is not installed.
    """
    if not 1 <= sites <= SITES_MAX:
        raise DataRefused(
            "breast cancer", f"cannot fill {sites} sites", fix=f"choose 1 to {SITES_MAX} sites"
        )
    cells, malignant = _cancer_table()
    owner = _spread(malignant, sites, seed)
    header = (
        CANCER_PATIENT_COLUMN,
        *(column.name for column in CANCER_TERMS.columns),
        CANCER_TARGET.column,
    )
    return tuple(
        DemoSite(
            f"hospital-{site + 1}",
            header,
            tuple(
                (f"P{patient + 1:04d}", *cells[patient], str(int(malignant[patient])))
                for patient in np.flatnonzero(owner == site)
            ),
        )
        for site in range(sites)
    )


def heart_sites(folder: Path) -> tuple[DemoSite, ...]:
    """Read the four UCI heart-disease files. Raises DataRefused naming file and line."""
    return tuple(_heart_site(folder / file, name) for name, file in HEART_FILES)


def terms_toml(terms: DataTerms) -> bytes:
    """The [data] section of a manifest."""
    return render_data(terms)


def main(arguments: Sequence[str]) -> int:
    """Write the tables and terms, and print where they are."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.demo_data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--heart", type=Path, help="folder of the UCI heart-disease files")
    given = parser.parse_args(arguments)
    try:
        if given.heart is None:
            made, terms = cancer_sites(given.sites, given.seed), CANCER_TERMS
            patient_column = CANCER_PATIENT_COLUMN
        else:
            made, terms = heart_sites(given.heart), HEART_TERMS
            patient_column = HEART_PATIENT_COLUMN
        given.out.mkdir(parents=True, exist_ok=True)
        written = [_write(site, given.out / f"{site.name}.csv") for site in made]
        terms_path = given.out / "data.toml"
        terms_path.write_bytes(terms_toml(terms))
    except (DataRefused, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    answer = {"sites": written, "terms": str(terms_path), "patient_column": patient_column}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _cancer_table() -> tuple[list[list[str]], NDArray[np.bool_]]:
    """The cells and labels, read from scikit-learn's file: importing scikit-learn takes 3 s."""
    spec = importlib.util.find_spec("sklearn")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise DataRefused("breast cancer", "scikit-learn is not installed", fix="make setup")
    path = Path(places[0]) / "datasets" / "data" / "breast_cancer.csv"
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise DataRefused(path.name, f"{error.strerror}", fix="reinstall scikit-learn") from None
    patients = lines[1:]
    columns = len(CANCER_TERMS.columns)
    if lines[0] != [str(len(patients)), str(columns), "malignant", "benign"]:
        raise DataRefused(path.name, "has another header", fix="use constraints.txt")
    labels = np.array([row[columns] == "0" for row in patients])
    return [row[:columns] for row in patients], labels


def _spread(malignant: NDArray[np.bool_], sites: int, seed: int) -> NDArray[np.int64]:
    """Draw each patient's site. malignant: bool[n]. Returns int64[n] in 0 … sites-1."""
    generator = np.random.Generator(np.random.PCG64(seed))
    owner = np.zeros(len(malignant), dtype=np.int64)
    sizes = generator.dirichlet(np.full(sites, 4.0))
    reserved = np.repeat(np.arange(sites), LABEL_PATIENTS_MIN)
    for label in (False, True):
        members = generator.permutation(np.flatnonzero(malignant == label))
        shares = generator.dirichlet(2.0 * sites * sizes)
        drawn = generator.choice(sites, size=len(members) - len(reserved), p=shares)
        owner[members] = np.concatenate([reserved, drawn])
    return owner


def _heart_site(path: Path, name: str) -> DemoSite:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise DataRefused(
            str(path),
            f"{error.strerror}",
            fix="get the four processed.*.data files of the UCI heart-disease data set",
        ) from None
    except UnicodeDecodeError:
        raise DataRefused(str(path), "is not plain text", fix="fetch the file again") from None
    rows: list[tuple[str, ...]] = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if cells == [""]:
            continue
        if len(cells) != len(HEART_FILE_COLUMNS) or not all(map(_is_heart_cell, cells)):
            raise DataRefused(
                f"{path}, line {number}",
                f"not {len(HEART_FILE_COLUMNS)} numbers or ? separated by commas",
                fix="fetch the file again from the UCI repository",
            )
        rows.append((f"{name}-{len(rows) + 1:03d}", *cells))
    if not rows:
        raise DataRefused(str(path), "is empty", fix="fetch the file again")
    return DemoSite(name, (HEART_PATIENT_COLUMN, *HEART_FILE_COLUMNS), tuple(rows))


def _is_heart_cell(cell: str) -> bool:
    if cell == "?":
        return True
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _write(site: DemoSite, path: Path) -> dict[str, object]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(site.header)
        writer.writerows(site.rows)
    return {"name": site.name, "csv": str(path), "patients": len(site.rows)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
