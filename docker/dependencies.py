"""What pyproject.toml depends on, one requirement a line: for pip, before our code is there.

Runs in the image's builder stage. Knows nothing of extras.
"""

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    sys.stdout.write("\n".join(project["dependencies"]) + "\n")
