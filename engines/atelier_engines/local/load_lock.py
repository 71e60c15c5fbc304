"""The lock of this process around loading models with diffusers and transformers."""

from __future__ import annotations

import threading

LOAD_LOCK = threading.RLock()
"""Hold it while modules are created from files, in whichever thread.

diffusers creates modules under accelerate's init_empty_weights (1.15), which replaces a method of
all modules meanwhile. Two threads at once would take each other's replacement for the original, and
all modules created later would stay without memory. Wait for nothing else while you hold it.
"""
