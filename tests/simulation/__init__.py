"""The product on simulated time: real gateways and owners, a modelled store, upstream, network and clients, all drawn from one seed."""
