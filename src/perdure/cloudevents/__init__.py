"""CloudEvents 1.0 over HTTP, in structured and in binary mode. Pure."""
