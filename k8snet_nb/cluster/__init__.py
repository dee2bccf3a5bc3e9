"""The façade: Cluster, and the Node, Pod and Service that it hands out."""

from .cluster import Cluster
from .node import Node
from .pod import Pod
from .service import Service

__all__ = ["Cluster", "Node", "Pod", "Service"]
