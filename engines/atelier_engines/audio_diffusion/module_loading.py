"""Loads parts of an audio model: modules from tensors, what every model's loading begins and ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
import transformers

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.engine import choose_rows
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.model import AudioModel
from atelier_engines.audio_diffusion.pipeline import AudioPipeline
from atelier_engines.capabilities import Reproducibility
from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.event import Event
from atelier_engines.local import cpu, devices
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.local.weights.dequantization import read_tensors
from atelier_engines.task import AudioTask

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_PACKAGES = ("torch", "diffusers", "transformers")
_WARM_UP_STEPS = 2


def open_components(config: AudioModelConfig) -> EngineComponents:
    """Where an engine acquires its components, on the configured device; sets up this thread.

    Raises:
        EngineUnavailableError: the device is absent, or not one that the runtime runs on.
    """
    device = devices.resolve_device(config.device)
    if config.runtime == "onnx" and device.type != "cpu":
        raise EngineUnavailableError(
            f"the runtime onnx runs on the CPU, not on {device}: set device to cpu, or runtime to torch"
        )
    torch.set_num_threads(cpu.thread_count())
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers'
    return EngineComponents(
        device, memory_budget=config.memory_budget, keep_loaded=config.keep_loaded
    )


def choose_dtype(config: AudioModelConfig, device: torch.device) -> torch.dtype:
    """The type that the denoiser computes in; `auto` is bfloat16 on CUDA, which has float32's range."""
    if config.precision == "auto" and device.type == "cuda":
        return torch.bfloat16
    return devices.resolve_dtype(config.precision, device)


def choose_text_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type that a T5 computes in beside a denoiser of that type: never float16, in which T5 overflows."""
    return torch.float32 if dtype == torch.float16 else dtype


def read_prefixed(
    path: Path, prefixes: Sequence[str], *, strip: bool = True
) -> dict[str, torch.Tensor]:
    """The tensors of a file whose names begin so; with `strip`, without the prefix.

    Raises:
        ModelMissingError: the file is absent or broken.
    """
    return {
        name.removeprefix(prefix) if strip else name: tensor
        for prefix in prefixes
        for name, tensor in read_tensors(path, torch.float32, prefix=prefix).items()
    }


def build_module(
    create: Callable[[], ModuleT],
    tensors: Mapping[str, torch.Tensor],
    *,
    where: Path,
    dtype: torch.dtype,
    device: torch.device,
    tied: Sequence[str] = (),
) -> ModuleT:
    """A module of these tensors on its device, in evaluation mode and without gradients.

    It is created without memory, so nothing is initialized that is overwritten.

    Args:
        create: returns it, whatever its weights are.
        tensors: its weights by name.
        where: their file, for messages.
        dtype: the type that it is to compute in.
        device: the device that it is to run on.
        tied: names of weights that are another's, which files leave out.

    Raises:
        ModelMissingError: weights are missing, or have another shape.
    """
    with torch.device("meta"):
        module = create()
    expected = module.state_dict()
    wrong = [
        name
        for name, tensor in expected.items()
        if name not in tied and (name not in tensors or tensors[name].shape != tensor.shape)
    ]
    if wrong:
        raise ModelMissingError(
            f"the weights in {where} are incomplete: {len(wrong)} are missing or of another shape, "
            f"{wrong[0]} first"
        )
    given = {name: _convert(tensors[name], dtype) for name in expected if name in tensors}
    module.load_state_dict(given, strict=False, assign=True)
    if tied:
        module.tie_weights()  # type: ignore[operator]  # a method of transformers' models
    return module.to(device).eval().requires_grad_(requires_grad=False)


def _convert(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def require_digest(digest: str, config: AudioModelConfig, source: str) -> str:
    """The digest, if it is the configured one.

    Raises:
        ModelMissingError: it is another.
    """
    if config.digest not in (None, digest):
        raise ModelMissingError(
            f"the weights of {source} have the digest {digest} and not the configured {config.digest}; "
            "get the ones that were meant, or change `digest`"
        )
    return digest


def describe_reproducibility(config: AudioModelConfig, device: torch.device) -> Reproducibility:
    """Bit by bit where clips run alone on a CPU: the batch changes the last bits."""
    alone = device.type == "cpu" and choose_rows(config.max_batch, device.type) == 1
    return Reproducibility.BIT_EXACT if alone else Reproducibility.SAME_ENGINE


def list_versions(config: AudioModelConfig) -> dict[str, str]:
    """The versions of the packages that affect the result."""
    packages = _PACKAGES if config.runtime == "torch" else (*_PACKAGES, "onnxruntime")
    return {name: version(name) for name in packages}


def warm_up(model: AudioModel) -> AudioPipeline:
    """A pipeline that has made the shortest clip: proves that the model fits, and initializes the device.

    Raises:
        EngineError: see AudioPipeline.start.
    """
    pipeline = AudioPipeline(model=model)
    run_alone(pipeline, _shortest_task(model.info), _ignore_event)
    return pipeline


def _shortest_task(info: AudioModelInfo) -> AudioTask:
    return AudioTask(
        prompt="a",
        duration_seconds=0.1,
        seed=0,
        sample_rate=info.sample_rate,
        channels=info.channels,
        steps=_WARM_UP_STEPS,
        guidance=2.0,
    )


def _ignore_event(event: Event) -> None:
    """Drop an event; nobody follows the warm-up's task."""
