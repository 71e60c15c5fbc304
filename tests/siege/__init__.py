"""A server under siege: thousands of generations through kills, drains, full disks and lost callers.

`plan` says what is asked of it, `callers` and `watchers` ask, `disturbances` are done to it; `recorder` keeps what
callers saw, `stored` reads what the server has at the end, and `violations` compares the two.
"""
