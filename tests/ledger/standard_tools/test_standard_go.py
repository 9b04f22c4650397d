"""What we export is accepted by Go's own sumdb/note and sumdb/tlog, and refused once changed.

Needs Debian's golang-go and golang-golang-x-mod-dev; installs them where it may."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from prov_exports import WITNESSES, cosigned_home, exported

SOURCES = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog")
PROGRAM = Path(__file__).with_name("verify.go")
OURS = "go-verified-note-and-proofs.json"
pytestmark = pytest.mark.go


@pytest.fixture(scope="session")
def verify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None or not SOURCES.is_dir():
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip("needs: apt-get install golang-go golang-golang-x-mod-dev")
        packages = ("golang-go", "golang-golang-x-mod-dev")
        install = ("apt-get", "install", "-y", "--no-install-recommends", *packages)
        subprocess.run(install, check=True, timeout=600, capture_output=True)
    folder = tmp_path_factory.mktemp("go")
    settings = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOCACHE": str(folder / "c")}
    environment = {**os.environ, **settings}
    build = ("go", "build", "-o", str(folder / "verify"), str(PROGRAM))
    subprocess.run(build, check=True, env=environment, timeout=300)
    return folder / "verify"


def run(verify: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run((str(verify), str(folder)), capture_output=True, text=True, timeout=60)


def test_go_accepts_head_cosignatures_and_proofs(verify: Path, tmp_path: Path) -> None:
    folder = exported(cosigned_home(tmp_path / "home"), "proofs", tmp_path / "out")
    done = run(verify, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok head ")
    assert f"{len(WITNESSES)} cosignatures" in done.stdout


@pytest.mark.parametrize("changed", ["note", "data", "proof", "r1", "cosignature"])
def test_go_refuses_what_was_changed(verify: Path, tmp_path: Path, changed: str) -> None:
    folder = exported(cosigned_home(tmp_path / "home"), "proofs", tmp_path / "out")
    document = json.loads((folder / "proofs.json").read_text())
    match changed:
        case "note":
            document["note"] = document["note"].replace("\n", "\n1", 1)
        case "data":
            document["inc"][0]["data"] = document["inc"][1]["data"]
        case "proof":
            document["inc"][0]["proof"].reverse()
        case "r1":
            document["con"][0]["r1"] = document["con"][1]["r1"]
        case _:
            document["wvkeys"].reverse()
            document["wvkeys"][0] = document["wvkeys"][1].replace("w1", "w2", 1)
    (folder / "proofs.json").write_text(json.dumps(document))
    assert run(verify, folder).returncode != 0
