"""Real clients and servers, unchanged, with the proxy between them and without: they notice no difference."""
