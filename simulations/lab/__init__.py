"""The laboratory: a scenario file in, what its sites learnt out.

The node's own core, averaging and training over a virtual network and clock."""
