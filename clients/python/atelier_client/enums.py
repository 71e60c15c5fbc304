"""The contract's enumerations as plain words.

A number that a newer server sends and this client does not know reads as UNSPECIFIED.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ProtoEnum(StrEnum):
    """A value of one enumeration; its text is the contract's name without prefix, in lower case."""

    @classmethod
    def from_number(cls, number: int) -> Self:
        """The word for a number on the wire: members are declared in the contract's order."""
        members = list(cls)
        return members[number] if 0 <= number < len(members) else members[0]

    @property
    def number(self) -> int:
        """The number on the wire."""
        return list(type(self)).index(self)


class State(ProtoEnum):
    """Where a generation stands."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True once nothing more will happen."""
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


class CancelOutcome(ProtoEnum):
    """How a cancellation went."""

    UNSPECIFIED = "unspecified"
    NEVER_STARTED = "never_started"
    STOPPED = "stopped"
    TOO_LATE = "too_late"
    VENDOR_MAY_BILL = "vendor_may_bill"


class Disposition(ProtoEnum):
    """How a requested value became the one that was used."""

    UNSPECIFIED = "unspecified"
    APPLIED = "applied"
    DEFAULTED = "defaulted"
    CLAMPED = "clamped"
    EMULATED = "emulated"
    IGNORED = "ignored"


class AttemptOutcome(ProtoEnum):
    """How one attempt at a generation ended."""

    UNSPECIFIED = "unspecified"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class EngineState(ProtoEnum):
    """Whether an engine can work now."""

    UNSPECIFIED = "unspecified"
    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    DRAINING = "draining"


class ServingStatus(ProtoEnum):
    """Whether the service accepts work."""

    UNSPECIFIED = "unspecified"
    SERVING = "serving"
    NOT_SERVING = "not_serving"


class ImageFeature(ProtoEnum):
    """What an engine can do beyond words to picture."""

    UNSPECIFIED = "unspecified"
    IMAGE_TO_IMAGE = "image_to_image"
    INPAINTING = "inpainting"
    CONTROLNET = "controlnet"
    CONTROL_PREPROCESSING = "control_preprocessing"
    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SCHEDULER = "scheduler"
    LORA = "lora"
    UPSCALING = "upscaling"
    PREVIEW = "preview"


class AudioFeature(ProtoEnum):
    """What an engine can do beyond words to sound."""

    UNSPECIFIED = "unspecified"
    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SEAMLESS_LOOP = "seamless_loop"
    LOUDNESS = "loudness"
    CANDIDATES = "candidates"


class CancelSupport(ProtoEnum):
    """How an engine's work ends when it is cancelled."""

    UNSPECIFIED = "unspecified"
    STEP = "step"
    REMOTE = "remote"
    NONE = "none"


class Reproducibility(ProtoEnum):
    """How well the same recipe repeats."""

    UNSPECIFIED = "unspecified"
    BIT_EXACT = "bit_exact"
    SAME_ENGINE = "same_engine"
    BEST_EFFORT = "best_effort"


class PriceUnit(ProtoEnum):
    """What one unit of a price is."""

    UNSPECIFIED = "unspecified"
    IMAGE = "image"
    MEGAPIXEL = "megapixel"
    SECOND = "second"


class ControlType(ProtoEnum):
    """What a control picture means."""

    UNSPECIFIED = "unspecified"
    CANNY = "canny"
    DEPTH = "depth"
    POSE = "pose"
    SEGMENTATION = "segmentation"


class LoraRole(ProtoEnum):
    """What a LoRA is for, in the order in which they are stacked."""

    UNSPECIFIED = "unspecified"
    STYLE = "style"
    CHARACTER = "character"
    CINEMATIC = "cinematic"


class ResourceProfile(ProtoEnum):
    """What to spend: time or memory."""

    UNSPECIFIED = "unspecified"
    SPEED = "speed"
    BALANCED = "balanced"
    MEMORY = "memory"


class SafetyMode(ProtoEnum):
    """What to do about pictures that a safety check flags."""

    UNSPECIFIED = "unspecified"
    BLOCK = "block"
    FLAG = "flag"
    OFF = "off"


class ImageFormat(ProtoEnum):
    """How a picture is encoded."""

    UNSPECIFIED = "unspecified"
    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
    AVIF = "avif"


class AudioFormat(ProtoEnum):
    """How a sound is encoded."""

    UNSPECIFIED = "unspecified"
    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
