"""The worker: it asks a server for commands, does them, and completes them. Nobody has to connect to it."""
