"""A recording read into a plan of namespaces, their interfaces, routes, pods and servers. Pure."""
