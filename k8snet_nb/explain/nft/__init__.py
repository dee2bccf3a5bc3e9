"""nftables rules followed as the kernel would: expressions, maps and sets, and the Services that they program."""
