"""The name of one command of a running node, apart from what answers it.

Health checks and monitoring ask for the status again and again: who asks must not load a node.
"""

from typing import Final

STATUS_COMMAND: Final = "node status"
