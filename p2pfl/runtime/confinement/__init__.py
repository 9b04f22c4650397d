"""Confining a process that runs approved training code: what it does not need, it cannot reach.

`launch` is what runs in the child, before anything else is imported; `probing` measures from
outside, by trying to escape, which layers this machine really offers. Nothing here knows what the
confined code is for."""
