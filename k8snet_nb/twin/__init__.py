"""The twin: a recorded cluster brought back to life in namespaces of this machine's kernel.

``model`` says what a twin is made of, ``planning`` makes that from a recording (pure), ``links`` and ``loading`` turn
it into commands with validated values only, ``keeper`` runs them in namespaces that nobody else can reach, ``serving``
answers there, and ``guest`` is a kernel of its own for what this one lacks.
"""
