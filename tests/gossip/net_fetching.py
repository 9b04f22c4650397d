"""A receiver in a process of its own, to be killed: fetches one blob and says how far it is.

python net_fetching.py FOLDER OWN_PORT OTHER_PORT DIGEST SIZE_BYTES
"""

import asyncio
import sys
from pathlib import Path

from gossip.identifiers import Digest
from gossip.libp2p_transport import Libp2pTransport
from simulations.benchmarks.transfer_bench import Echo, Stage, keys_of, roster_of


async def fetch(stage: Stage, digest: Digest, size_bytes: int) -> None:
    """Say the bytes on disk whenever they change, then "done"."""
    inbox = Echo()
    transport = Libp2pTransport(
        keys_of(0).transport, roster_of(stage), f"127.0.0.1:{stage.ports[0]}"
    )
    await transport.start(inbox)
    giver = await inbox.met.get()
    into = stage.folder / "had"
    await transport.fetch(giver, digest, size_bytes, into, lambda had: print(had, flush=True))
    print("done", flush=True)
    await transport.stop()


if __name__ == "__main__":
    folder, own, other, digest, size = sys.argv[1:]
    stage = Stage(Path(folder), (int(own), int(other)), 0, 0)
    asyncio.run(fetch(stage, Digest(bytes.fromhex(digest)), int(size)))
