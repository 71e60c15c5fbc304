"""Lists the weights of a tangoflux engine, for `atelier models`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.tangoflux.config import TangoFluxConfig
from atelier_engines.tangoflux.facts import FAMILY, LICENSE
from atelier_engines.weights import Weights, WeightsEntry


def list_weights(config: TangoFluxConfig) -> Sequence[WeightsEntry]:
    """The model; the text encoder's weights are in it."""
    return [WeightsEntry(key="model", source=config.model, find=partial(_find, config))]


def _find(config: TangoFluxConfig, download: bool) -> Weights:  # noqa: FBT001 (see WeightsEntry)
    from atelier_engines.local.weights.verification import verify_files  # noqa: PLC0415  (brings NumPy)
    from atelier_engines.tangoflux import files  # noqa: PLC0415  (see above)

    if download and not config.accept_license:
        raise EngineUnavailableError(
            f"the weights are {LICENSE}; set accept_license: true if you accept that"
        )
    found = files.find_files(config.model_copy(update={"download": download}))
    paths = (found.weights, found.autoencoder)

    def verify() -> None:
        verify_files(paths)
        digest = found.digest()
        if config.digest not in (None, digest):
            raise ModelMissingError(
                f"the digest is {digest} and not {config.digest}, which is configured"
            )

    return Weights(
        files=paths,
        family=FAMILY,
        notes=f"licence: {LICENSE}",
        digest=found.digest,
        verify=verify,
    )
