"""The `speech` engine: says the words of its prompt with a small English voice, on this machine's CPU.

Importing this package imports no model library; that happens when an engine starts.
"""

from __future__ import annotations

from atelier_engines.engine import EngineType
from atelier_engines.speech.config import SpeechConfig
from atelier_engines.speech.engine import SpeechEngine

ENGINE = EngineType(config=SpeechConfig, create=SpeechEngine)
"""The engine type that the package registers."""
