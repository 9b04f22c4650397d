"""Gradients of one patient at a time, computed by a text that nobody here wrote.

A gradient belongs to one patient only if the code that computed it has met that patient and nobody
else. So every patient of every step gets a process of its own, a *cell*:

  worker   our code. Holds the patients, draws them, clips, adds noise, steps. Runs no foreign text.
  keeper   our code, no patients. Torch is loaded; it forks a cell whenever the worker asks for one,
           keeps nothing about it, and runs no foreign text either.
  cell     runs the text for one patient. It has two pipes to the worker, memory of its own, and
           hardly a system call: no file, no clock by system call, no socket, no process, no thread.

`trainer` is what a study uses; `asking` is the worker's end of a cell, `cell` the other one.
What cells are kept from, and what they are not: docs/confinement.md.
"""
