"""Loads a model's own scheduler, or says by name why it cannot be used."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from atelier_engines.diffusion.schedulers import CLASSES, Scheduler
from atelier_engines.diffusion.weights.prediction import SchedulerConfig
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line

_OWN: Final[Mapping[str, str]] = {
    **{kind.__name__: kind.__module__ for kind in CLASSES},
    **{
        name: f"diffusers.schedulers.{module}"
        for name, module in {
            "EDMDPMSolverMultistepScheduler": "scheduling_edm_dpmsolver_multistep",
            "EDMEulerScheduler": "scheduling_edm_euler",
            "LMSDiscreteScheduler": "scheduling_lms_discrete",
            "SASolverScheduler": "scheduling_sasolver",
        }.items()
    },
}
"""Classes of diffusers that a model may bring, and their modules."""

_DISCRETE: Final = (
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DPMSolverSDEScheduler",
    "LMSDiscreteScheduler",
    "SASolverScheduler",
)
"""Classes beside those of common names whose configuration is a noise schedule of discrete steps."""

_REASONS: Final[Mapping[str, str]] = {
    "DPMSolverSDEScheduler": "its noise comes from torchsde, and not from a seed",
}


def load_scheduler(
    source: Path,
    config: SchedulerConfig,
    *,
    architecture: str,
    replaced: bool,
    changes: Mapping[str, object],
) -> Scheduler:
    """The scheduler of a configuration, with changes to it.

    Args:
        source: the model, for messages.
        config: the content of its scheduler_config.json.
        architecture: sd or sdxl.
        replaced: whether the engine is configured to use another by default; then only the noise schedule counts.
        changes: settings that the engine is configured with.

    Raises:
        ModelMissingError: it cannot be used; the message names it and what works instead.
    """
    name = str(config.get("_class_name", "nameless"))
    problem = _find_problem(name)
    discrete = name in _DISCRETE or any(name == kind.__name__ for kind in CLASSES)
    if problem is not None and not (replaced and discrete):
        instead = (
            "; set `scheduler` to use another with its noise schedule"
            if discrete
            else f"; supported are {', '.join(_OWN)}"
        )
        raise ModelMissingError(f"the scheduler of {source} is {name}: {problem}{instead}")
    if problem is not None:
        name = "EulerDiscreteScheduler"
    kind: Any = getattr(import_module(_OWN[name]), name)
    parameters = inspect.signature(kind.__init__).parameters
    defaults = {one: parameter.default for one, parameter in parameters.items()}
    if ignored := sorted(changes.keys() - defaults.keys()):
        raise ModelMissingError(
            f"the scheduler of {source} is {name}, which has no {ignored[0]}; leave the setting out"
        )
    try:
        made = kind.from_config({**config, **_correct(config, defaults, architecture), **changes})
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise ModelMissingError(
            f"the scheduler of {source} is {name}, and its configuration cannot be used: {first_line(error)}"
        ) from error
    return cast("Scheduler", made)


def _find_problem(name: str) -> str | None:
    """Why a class cannot be used; None if it can."""
    if name in _REASONS:
        return _REASONS[name]
    return None if name in _OWN else "it is not supported"


def _correct(
    config: SchedulerConfig, defaults: Mapping[str, object], architecture: str
) -> SchedulerConfig:
    """What diffusers changes in outdated configurations of Stable Diffusion 1 and 2.

    Source: diffusers 0.42.1, StableDiffusionPipeline.__init__.
    """
    if architecture != "sd":
        return {}
    whole = {**defaults, **config}
    found: dict[str, object] = {"steps_offset": 1} if "steps_offset" in whole else {}
    return {**found, **({"clip_sample": False} if whole.get("clip_sample") is True else {})}
