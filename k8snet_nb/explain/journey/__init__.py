"""A journey from a client through a Service to a server and back, over one node or two."""
