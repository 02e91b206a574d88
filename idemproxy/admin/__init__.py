"""The admin port: a second port, never the data port."""
