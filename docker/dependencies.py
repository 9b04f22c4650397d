"""What pyproject.toml depends on, one requirement a line, so that pip can install it without our code.

Runs in the image's builder stage, before the sources are there. Knows nothing of extras.
"""

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join(project["dependencies"]) + "\n")
