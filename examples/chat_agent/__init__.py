"""A conversation with a model that uses tools: each message is answered once, and dangerous tools wait for a person."""
