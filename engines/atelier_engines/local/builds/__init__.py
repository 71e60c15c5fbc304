"""Files that are built from weights, such as exported networks: kept with manifests, and checked before they are used.

Imports no torch, so that commands can list them.
"""
