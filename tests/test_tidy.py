"""The habits of this project that no linter knows: sizes, words, links, and what lives where."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("ledger", "gossip", "p2pfl", "simulations")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

BANNED_WORDS = frozenset(
    ["client", "server", "manager", "helper", "helpers", "util", "utils", "common", "misc"]
)
HTTP = ("p2pfl/dashboard/", "p2pfl/runtime/control")  # where "server" is the field's word

# module: the only files that may import it
HOMES = {
    "torch": ("p2pfl/learning/", "simulations/"),
    "monai": ("p2pfl/learning/", "simulations/"),
    "opacus": ("p2pfl/learning/", "simulations/"),
    "pandas": ("p2pfl/learning/", "simulations/"),
    "libp2p": ("gossip/libp2p_",),
    "multiaddr": ("gossip/libp2p_",),
    "trio": ("gossip/libp2p_",),
    "dp_accounting": ("p2pfl/privacy/accounting.py",),
    "aiohttp": (*HTTP, "p2pfl/runtime/metrics_page.py"),
    "typer": ("p2pfl/cli/",),
    "pickle": (),
    "dill": (),
    "cloudpickle": (),
    "marshal": (),
    "shelve": (),
}


def files(*suffixes: str, under: tuple[str, ...] = ("",)) -> list[Path]:
    """Every file of ours: neither hidden nor made by tools (the set-up checks hold for .ci)."""
    found = (path for top in under for path in sorted((ROOT / top).rglob("*")))
    return [
        path
        for path in found
        if path.suffix in suffixes
        and path.is_file()
        and not any(
            part.startswith(".") or part in ("__pycache__", "build", "dist", "demo-homes")
            for part in path.relative_to(ROOT).parts
        )
    ]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


PYTHON = files(".py")
OURS = files(".py", under=CODE)
TEXTS = files(".py", ".md", ".toml", ".sh", ".txt", ".yml", ".yaml", ".html", ".css", ".js")


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names this code gives, not those it uses: a library may call things as it likes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno


def words(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")


def test_no_file_outgrows_a_reader() -> None:
    counted = {named(path): path.read_text(encoding="utf-8").count("\n") for path in PYTHON}
    assert {name: lines for name, lines in counted.items() if lines > FILE_LINES_MAX} == {}


def test_every_function_fits_on_a_screen() -> None:
    long = []
    for path in PYTHON:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node, clean=False)
                first = node.body[1 if documented and len(node.body) > 1 else 0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{named(path)}:{node.lineno} {node.name} has {lines} lines")
    assert long == []


def test_names_use_the_words_of_the_field() -> None:
    wrong = []
    for path in PYTHON:
        if named(path).startswith(HTTP):
            continue
        names = [(path.stem, 1), *defined_names(parsed(path))]
        wrong += [
            f"{named(path)}:{line} {name}"
            for name, line in names
            if BANNED_WORDS.intersection(words(name))
        ]
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        named(path)
        for path in OURS
        if path.stat().st_size > 0 and not ast.get_docstring(parsed(path))
    ]
    assert silent == []


def imported_modules(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def test_heavy_and_dangerous_libraries_stay_in_their_homes() -> None:
    strays = []
    for path in OURS:
        for module, line in imported_modules(parsed(path)):
            homes = HOMES.get(module.split(".")[0])
            if homes is not None and not named(path).startswith(homes):
                strays.append(f"{named(path)}:{line} imports {module}")
    assert strays == []


def test_no_test_imports_a_conftest() -> None:
    """Every folder has one: which of them `import conftest` finds depends on what else is run."""
    found = [
        f"{named(path)}:{line}"
        for path in files(".py", under=("tests",))
        for module, line in imported_modules(parsed(path))
        if module.split(".")[0] == "conftest"
    ]
    assert found == []


def test_lint_exceptions_carry_their_reason() -> None:
    """Behind the rule's code or in a comment on the line above; a type exception names its code."""
    nameless = re.compile(r"#\s*noqa(?!:)|#\s*type:\s*ignore(?!\[)")
    reasonless = re.compile(r"#\s*noqa:\s*[A-Z0-9, ]+\s*$")
    found = []
    for path in PYTHON:
        above = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            explained = above.lstrip().startswith("#")
            if nameless.search(line) or (reasonless.search(line) and not explained):
                found.append(f"{named(path)}:{number}")
            above = line
    assert [at for at in found if not at.startswith(named(Path(__file__)))] == []


def test_nothing_is_left_to_do_in_the_code() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [
        f"{named(path)}:{number}"
        for path in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if mark.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("document", files(".md"), ids=named)
def test_relative_links_in_documents_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    dead = [
        target
        for target in targets
        if not re.match(r"[a-z]+:", target) and not (document.parent / target).exists()
    ]
    assert dead == []


def test_constraints_hold_names_and_versions_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pin = re.compile(r"[a-z0-9._-]+==[0-9a-z.]+( ;.*)?")
    assert [line for line in lines if not pin.fullmatch(line)] == []
    assert not (ROOT / "uv.lock").exists()
