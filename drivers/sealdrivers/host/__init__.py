"""One worker process per module: protocol, worker, supervisor, and all modules together as a token service."""
