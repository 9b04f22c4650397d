"""The stories of ledgers that the ledger's own tests tell are of use here, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger" / "provenance"))
