"""The protocol, sans-IO: no socket, no store, no event loop, no clock, no randomness."""
