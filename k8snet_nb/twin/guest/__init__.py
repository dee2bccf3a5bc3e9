"""User-Mode Linux: a kernel of its own for a node that this machine's kernel cannot hold."""
