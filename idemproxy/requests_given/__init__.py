"""A request that an operator gives in writing, instead of a client that sends it."""
