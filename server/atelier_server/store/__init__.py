"""Accepts, queues, logs and finishes generations. `contract` says what a store does; the rest are stores."""
