"""Servers that write down every request that they see: one line each, `METHOD TARGET`, or `? ?` for one that they could not read."""
