"""Measurements of the real thing, each a command of its own; docs/benchmarks.md quotes them.

Every benchmark measures here and now, beside a reference in the same run where there is one, and
prints lines of `report.Measured`. Its exit status is 1 if a goal was missed.
"""
