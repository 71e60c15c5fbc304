"""A long fire of requests gone wrong at a real server; see `__main__.py`."""
