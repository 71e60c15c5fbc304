"""What stands around every call, one module for each concern; `rpc/server.py` lists them in order."""
