"""What real client libraries do on each problem. `python -m tests.sdks` asks them and writes the tables of docs/clients.md."""
