"""Servers, a DNS server and a client that run inside the twin's namespaces."""
