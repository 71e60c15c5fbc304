"""Accepts, queues, logs and finishes generations: `protocol` says how; each database has a package of its own."""
