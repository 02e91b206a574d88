"""Requests and answers that two readers could take in different ways, through the proxy, to servers that people run."""
