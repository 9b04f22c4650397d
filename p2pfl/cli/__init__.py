"""The `p2pfl` command: thin. It parses what was typed, calls `p2pfl.runtime.commands`, and prints.

Every module of a command family imports what is heavy inside the function that needs it, so that
`p2pfl --help` stays fast.
"""
