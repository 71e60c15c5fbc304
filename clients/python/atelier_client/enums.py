"""The contract's enumerations.

A number of a newer server that this client does not know becomes UNSPECIFIED.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ProtoEnum(StrEnum):
    """A value of an enumeration; its text is the contract's name without the prefix, in lower case."""

    @classmethod
    def from_number(cls, number: int) -> Self:
        """The member with that number on the wire: members are declared in the contract's order."""
        members = list(cls)
        return members[number] if 0 <= number < len(members) else members[0]

    @property
    def number(self) -> int:
        """The number on the wire."""
        return list(type(self)).index(self)


class State(ProtoEnum):
    """The state of a generation."""

    UNSPECIFIED = "unspecified"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the generation has ended."""
        return self in {State.SUCCEEDED, State.FAILED, State.CANCELLED}


class Priority(ProtoEnum):
    """Which generations of a tenant go first in the queue of an engine; UNSPECIFIED is INTERACTIVE."""

    UNSPECIFIED = "unspecified"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class CancelOutcome(ProtoEnum):
    """The result of a cancellation."""

    UNSPECIFIED = "unspecified"
    NEVER_STARTED = "never_started"
    STOPPED = "stopped"
    TOO_LATE = "too_late"
    VENDOR_MAY_BILL = "vendor_may_bill"
    MAY_GO_ON = "may_go_on"


class CancelCause(ProtoEnum):
    """Why a generation was cancelled."""

    UNSPECIFIED = "unspecified"
    REQUESTED = "requested"
    CALLERS_LOST = "callers_lost"
    QUEUE_CLEARED = "queue_cleared"


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
    RELEASED = "released"
    SKIPPED = "skipped"


class EngineState(ProtoEnum):
    """The state of an engine."""

    UNSPECIFIED = "unspecified"
    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    DRAINING = "draining"


class ServingStatus(ProtoEnum):
    """Whether the server accepts generations."""

    UNSPECIFIED = "unspecified"
    SERVING = "serving"
    NOT_SERVING = "not_serving"


class ImageFeature(ProtoEnum):
    """Features of an engine beyond text-to-image."""

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
    EMBEDDING = "embedding"


class AudioFeature(ProtoEnum):
    """Features of an engine beyond text-to-audio."""

    UNSPECIFIED = "unspecified"
    NEGATIVE_PROMPT = "negative_prompt"
    SEED = "seed"
    SEAMLESS_LOOP = "seamless_loop"
    LOUDNESS = "loudness"
    CANDIDATES = "candidates"
    SPEECH = "speech"
    AUDIO_TO_AUDIO = "audio_to_audio"
    PREVIEW = "preview"
    CONTINUATION = "continuation"


class CancelSupport(ProtoEnum):
    """How an engine stops a cancelled task."""

    UNSPECIFIED = "unspecified"
    STEP = "step"
    REMOTE = "remote"
    NONE = "none"


class Reproducibility(ProtoEnum):
    """How exactly the same recipe is reproduced."""

    UNSPECIFIED = "unspecified"
    BIT_EXACT = "bit_exact"
    SAME_ENGINE = "same_engine"
    BEST_EFFORT = "best_effort"


class PriceUnit(ProtoEnum):
    """The unit of a price."""

    UNSPECIFIED = "unspecified"
    IMAGE = "image"
    MEGAPIXEL = "megapixel"
    SECOND = "second"


class ControlType(ProtoEnum):
    """The type of a ControlNet image."""

    UNSPECIFIED = "unspecified"
    CANNY = "canny"
    DEPTH = "depth"
    POSE = "pose"
    SEGMENTATION = "segmentation"


class LoraRole(ProtoEnum):
    """The role of a LoRA, in the order in which LoRAs are stacked."""

    UNSPECIFIED = "unspecified"
    STYLE = "style"
    CHARACTER = "character"
    CINEMATIC = "cinematic"


class FitMode(ProtoEnum):
    """How an image of another aspect ratio is fitted to a size."""

    UNSPECIFIED = "unspecified"
    COVER = "cover"
    CONTAIN = "contain"
    STRETCH = "stretch"


class ResourceProfile(ProtoEnum):
    """Trade-off between speed and memory."""

    UNSPECIFIED = "unspecified"
    SPEED = "speed"
    BALANCED = "balanced"
    MEMORY = "memory"


class SafetyMode(ProtoEnum):
    """What to do with images that a safety check flags."""

    UNSPECIFIED = "unspecified"
    BLOCK = "block"
    FLAG = "flag"
    OFF = "off"


class ImageFormat(ProtoEnum):
    """The file format of an image."""

    UNSPECIFIED = "unspecified"
    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
    AVIF = "avif"


class AudioFormat(ProtoEnum):
    """The file format of audio."""

    UNSPECIFIED = "unspecified"
    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    OPUS = "opus"
    MP3 = "mp3"


class RoutingPolicy(ProtoEnum):
    """How an engine is selected for a task that names none."""

    UNSPECIFIED = "unspecified"
    DEFAULT = "default"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"


class SelectionReason(ProtoEnum):
    """Why an engine was selected."""

    UNSPECIFIED = "unspecified"
    NAMED = "named"
    DEFAULT = "default"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    FALLBACK = "fallback"
    RULE = "rule"
