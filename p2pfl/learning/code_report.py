"""What a researcher's text contains, found by reading: `python -m p2pfl.learning.code_report`.

Responsible for a short list that helps a person read: imports, and calls that have to do with
files, networks, processes, native code, or with hiding what is called. The text is parsed and never
run; it is parsed in a process of its own because deep nesting can end the parser's. What is not
found here may be there all the same: confinement protects, not this list.

In:  {text}
Out: {problem ("": none), imports: [{name, line}], packages: [name], calls: [{kind, what, line}],
      left_out}
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from typing import Final

from p2pfl.learning.json_request import answer_request

LISTED_MAX: Final = 200
"""Entries of each list; how many more there are is said."""
OURS: Final = "p2pfl"
MODULES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("os", "io", "pathlib", "shutil", "tempfile", "glob", "fileinput", "mmap", "sqlite3"),
        "files",
    ),
    **dict.fromkeys(("zipfile", "tarfile", "gzip", "bz2", "lzma", "dbm", "shelve"), "files"),
    **dict.fromkeys(
        ("socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "asyncio", "ftplib"),
        "network",
    ),
    **dict.fromkeys(("smtplib", "xmlrpc", "socketserver", "telnetlib", "selectors"), "network"),
    **dict.fromkeys(
        ("subprocess", "multiprocessing", "threading", "signal", "pty", "concurrent", "sched"),
        "processes",
    ),
    **dict.fromkeys(("ctypes", "cffi", "cython", "numba", "resource", "fcntl"), "native code"),
    **dict.fromkeys(
        ("importlib", "builtins", "inspect", "gc", "sys", "marshal", "pickle", "codecs", "base64"),
        "hidden",
    ),
    **dict.fromkeys(("runpy", "code", "codeop", "types", "dis", "zlib", "binascii"), "hidden"),
}
"""Modules by what they are for; importing one is told with its kind."""
BUILTINS: Final[Mapping[str, str]] = {
    "open": "files",
    **dict.fromkeys(
        ("eval", "exec", "compile", "__import__", "globals", "locals", "vars", "setattr"), "hidden"
    ),
    **dict.fromkeys(("getattr", "delattr", "breakpoint", "input", "print"), "hidden"),
}
ATTRIBUTES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("load", "save", "fromfile", "tofile", "memmap", "savez", "loadtxt", "savetxt", "dump"),
        "files",
    ),
    **dict.fromkeys(("read_csv", "to_csv", "write_text", "read_text", "from_file"), "files"),
    **dict.fromkeys(("load_state_dict_from_url", "from_pretrained", "download"), "network"),
    **dict.fromkeys(("system", "popen", "fork", "spawn", "execv", "kill"), "processes"),
    **dict.fromkeys(("data_ptr", "from_blob", "cpp_extension", "load_library"), "native code"),
}


def report(text: str) -> dict[str, object]:
    """What reading finds. A text that is no Python has a problem and nothing else."""
    try:
        tree = ast.parse(text, "plan.py")
        imports = sorted(_imports(tree), key=lambda found: found[1])
        calls = sorted(_calls(tree), key=lambda found: found[2])
    except SyntaxError as error:
        return _told(f"line {error.lineno or 1}: {error.msg}", [], [])
    except (RecursionError, MemoryError, ValueError):
        return _told("nested too deeply to be read", [], [])
    return _told("", imports, calls)


def _told(
    problem: str, imports: list[tuple[str, int]], calls: list[tuple[str, str, int]]
) -> dict[str, object]:
    packages = {name.split(".")[0] for name, _ in imports}
    third = sorted(packages - sys.stdlib_module_names - {OURS, "__future__"})
    left_out = max(0, len(imports) - LISTED_MAX) + max(0, len(calls) - LISTED_MAX)
    return {
        "problem": problem,
        "imports": [{"name": name, "line": line} for name, line in imports[:LISTED_MAX]],
        "packages": third[:LISTED_MAX],
        "calls": [
            {"kind": kind, "what": what, "line": line} for kind, what, line in calls[:LISTED_MAX]
        ],
        "left_out": left_out,
    }


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=module, level=level):
                yield ("." * level + (module or ""), node.lineno)
            case _:
                pass


def _calls(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Kind, name and line of what is worth a look."""
    for name, line in _imports(tree):
        kind = MODULES.get(name.split(".")[0])
        if kind is not None:
            yield kind, f"import {name}", line
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield BUILTINS[name], f"{name}()", node.lineno
            case ast.Attribute(attr=name) if name in ATTRIBUTES:
                yield ATTRIBUTES[name], f".{name}", node.lineno
            case ast.Attribute(attr=name) if name.startswith("__") and name != "__init__":
                yield "hidden", f".{name}", node.lineno
            case ast.Name(id=name) if name.startswith("__"):
                yield "hidden", name, node.lineno
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield "kept between calls", ", ".join(names), node.lineno
            case _:
                pass


def main() -> int:
    """Answer one JSON request from stdin on stdout."""
    return answer_request(lambda request: report(str(request["text"])))


if __name__ == "__main__":
    sys.exit(main())
