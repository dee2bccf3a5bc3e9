"""iptables rules followed as the kernel would: matches, targets, the walk, and the Services that they program."""
