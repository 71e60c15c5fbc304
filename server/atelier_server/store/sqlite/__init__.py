"""The embedded store: one SQLite file, queues in memory, one process."""
