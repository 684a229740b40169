"""SQLite: a file, or a database in memory."""
