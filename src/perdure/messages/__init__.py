"""Messages: accepted once, parked or queued, done, or dead with a reason."""
