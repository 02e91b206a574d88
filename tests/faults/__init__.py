"""Faults that real systems had, on real processes: two proxies on one store that are killed, stopped and kept busy, before an upstream
that keeps a ledger of what it executed."""
