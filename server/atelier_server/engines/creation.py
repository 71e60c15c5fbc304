"""Creates the engine of a section of the configuration, with all of its instances."""

from __future__ import annotations

from atelier_engines import registry
from atelier_engines.engine import Engine
from atelier_engines.validation import ValidatingEngine
from atelier_engines.wrappers.replicas import ReplicatedEngine
from atelier_server.config.engine_settings import EngineSettings


def create_engine(settings: EngineSettings) -> Engine:
    """The engine, or one engine at each of its addresses as one; nothing is started.

    Raises:
        EngineError: it cannot be created.
    """
    kind = registry.load(settings.type)
    if kind.address_key is None or not settings.replicas:
        return kind.create(settings.config)
    configs = {
        address: settings.config.model_copy(update={kind.address_key: address})
        for address in settings.replicas
    }
    return ReplicatedEngine(
        {address: ValidatingEngine(kind.create(config)) for address, config in configs.items()}
    )
