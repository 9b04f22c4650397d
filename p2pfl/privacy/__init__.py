"""Mechanisms, noise, privacy accounting and budgets: pure mathematics, no I/O, no clock."""
