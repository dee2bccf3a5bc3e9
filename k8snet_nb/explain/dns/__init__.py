"""Cluster DNS: which names a pod asks for, which server answers from what, and whether the answers agree."""
