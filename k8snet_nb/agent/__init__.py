"""What runs on a node: answers fact requests from the kernel, and changes nothing.

``python -m k8snet_nb.agent`` reads framed requests on standard input and writes framed answers to standard output
(:mod:`.protocol`). The modules here use the standard library only, besides :mod:`k8snet_nb.cgroups` (and pyroute2 for
IPVS, where a node lacks ipvsadm), and keep to the syntax of Python 3.9, which a node may have. They never load a kernel
module: /proc is asked first, and "not loaded" is an answer (:mod:`.kernel`).
"""
