"""The node as a state machine: studies, governance, rounds: `handle(now, event) -> [effect]`.

Does no I/O, reads no clock, starts no thread. Time, randomness, keys and paths are arguments;
what has to happen in the world comes back as effects that the runtime performs.
"""
