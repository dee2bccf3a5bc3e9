"""Recorded rules read into commands that load them, with validated words only; and the running of these."""
