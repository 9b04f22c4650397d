"""Good bytes come from the helpers of the other tests."""

import sys
from pathlib import Path

for folder in ("gossip", "core"):
    sys.path.append(str(Path(__file__).parent.parent / folder))
