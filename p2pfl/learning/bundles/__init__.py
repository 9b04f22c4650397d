"""MONAI bundles that people at this site installed, run by MONAI's own ClientAlgo.

A bundle's configuration names whatever is to be called, and its expressions are evaluated: it is
code that somebody else wrote, and runs in a confined process alone. It is read from this site's own
copy, whose digest the study names; nothing of a bundle ever comes from another site.
"""
