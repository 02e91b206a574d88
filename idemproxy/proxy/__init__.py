"""The sockets: clients' connections and upstream's."""
