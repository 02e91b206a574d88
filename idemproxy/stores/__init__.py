"""Where records are kept: one interface, one file a backend."""
