"""IPVS: its virtual servers and schedulers, with the iptables rules and sets that kube-proxy puts around them."""
