"""What a bundle contains, found by reading: `python -m p2pfl.learning.bundles.report`.

Responsible for a list that helps people read: what its configurations call, the expressions that
are evaluated, and what its Python files import and call. Nothing is run; what is not found here
may be there all the same.

In:  {folder, files: [path]}
Out: {problem ("": none), targets: [{file, name}], expressions: [{file, place, text}],
      scripts: [{file, problem, imports: [name], calls: [{kind, what, line}]}], packages: [name],
      license, left_out}
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from p2pfl.core.manifest_bundle import EVALUATE_CONFIG, TRAIN_CONFIG
from p2pfl.learning.code_report import LISTED_MAX, OURS, report
from p2pfl.learning.json_request import answer_request

ALWAYS: Final = ("ignite", "monai", "torch")
"""What runs every bundle."""
TEXT_CHARACTERS_MAX: Final = 300
_DEPTH_MAX: Final = 60
_IMPORTED: Final = re.compile(r"\b(?:import|from)\s+([A-Za-z_][A-Za-z0-9_]*)")


def bundle_report(folder: Path, files: list[str]) -> dict[str, object]:
    """What reading finds. files: the bundle's paths."""
    targets: set[tuple[str, str]] = set()
    expressions: list[tuple[str, str, str]] = []
    problem = ""
    for path in sorted(files):
        if not (path.startswith("configs/") and path.endswith(".json")):
            continue
        try:
            found = list(_walk(json.loads((folder / path).read_text("utf-8")), "", 0))
        except (ValueError, RecursionError):
            problem = problem or f"{path} is no JSON of reasonable depth"
            continue
        targets |= {(path, text) for place, text in found if place.endswith("_target_")}
        expressions += [
            (path, place, text[:TEXT_CHARACTERS_MAX])
            for place, text in found
            if text.startswith("$")
        ]
    scripts = [_script(folder, path) for path in sorted(files) if path.endswith(".py")]
    return {
        "problem": problem,
        "targets": [{"file": path, "name": name} for path, name in sorted(targets)[:LISTED_MAX]],
        "expressions": [
            {"file": path, "place": place, "text": text}
            for path, place, text in expressions[:LISTED_MAX]
        ],
        "scripts": scripts,
        "packages": _packages(files, targets, expressions, scripts),
        "license": _license(folder, files),
        "left_out": max(0, len(targets) - LISTED_MAX) + max(0, len(expressions) - LISTED_MAX),
    }


def _walk(value: object, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """Every string of a configuration with its place."""
    if depth > _DEPTH_MAX:
        raise RecursionError
    match value:
        case str():
            yield place, value
        case dict():
            for name, one in value.items():
                yield from _walk(one, f"{place}#{name}" if place else str(name), depth + 1)
        case list():
            for index, one in enumerate(value):
                yield from _walk(one, f"{place}#{index}" if place else str(index), depth + 1)
        case _:
            pass


def _script(folder: Path, path: str) -> dict[str, object]:
    try:
        found = report((folder / path).read_text("utf-8"))
    except UnicodeDecodeError:
        return {"file": path, "problem": "is no text", "imports": [], "calls": []}
    names = found["imports"]
    assert isinstance(names, list), "the report lists what is imported"
    imports = sorted({str(one["name"]) for one in names})
    return {
        "file": path,
        "problem": found["problem"],
        "imports": imports,
        "calls": found["calls"],
    }


def _packages(
    files: list[str],
    targets: set[tuple[str, str]],
    expressions: list[tuple[str, str, str]],
    scripts: list[dict[str, object]],
) -> list[str]:
    """Third-party packages that what was found names."""
    own = {path.split("/")[0].removesuffix(".py") for path in files if path.endswith(".py")}
    named = {name.split(".")[0] for _, name in targets if "." in name and name[0] != "$"}
    named |= {name for _, _, text in expressions for name in _IMPORTED.findall(text)}
    for script in scripts:
        imports = script["imports"]
        assert isinstance(imports, list), "the report lists what is imported"
        named |= {str(name).split(".")[0] for name in imports if not str(name).startswith(".")}
    third = named - own - sys.stdlib_module_names - {OURS, "__future__", ""}
    return sorted(third | set(ALWAYS))[:LISTED_MAX]


def _license(folder: Path, files: list[str]) -> str:
    """As the bundle's metadata says, or the name of a licence's file, or nothing."""
    try:
        said = json.loads((folder / "configs/metadata.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        said = {}
    named = said.get("license") if isinstance(said, Mapping) else None
    if isinstance(named, str) and named:
        return named[:80]
    return next((path for path in sorted(files) if "LICEN" in path.upper()), "")


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    return answer_request(_answered)


def _answered(request: Mapping[str, object]) -> dict[str, object]:
    files = request["files"]
    if not isinstance(files, list) or not {TRAIN_CONFIG, EVALUATE_CONFIG} <= set(files):
        raise ValueError("files")
    return bundle_report(Path(str(request["folder"])), [str(path) for path in files])


if __name__ == "__main__":
    sys.exit(main())
