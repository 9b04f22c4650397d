"""What each command does, as plain functions over an opened site.

The CLI calls them when no node runs; the running node performs them for the control socket. They
know neither terminals nor sockets: arguments and results are frozen values.
"""
