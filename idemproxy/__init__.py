"""idemproxy: a sidecar reverse proxy that makes any HTTP API safe to retry."""
