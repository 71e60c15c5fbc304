"""The settings of reuse, under the names that existing installations have for them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from atelier_engines.config import Section

CapStrategy = Literal["diversity", "quality", "oldest"]


class ReuseConfig(Section):
    """When a clip that was made before is returned, and how many are kept."""

    use_bge: bool = Field(
        default=True,
        description="Whether prompts are compared by a sentence embedding; off, only prompts of the same words match.",
    )
    bge_model: str = Field(
        default="BAAI/bge-small-en-v1.5",
        min_length=1,
        description="The sentence embedding: a directory, or a Hugging Face hub id; a BERT in the layout of "
        "sentence-transformers, such as BGE and MiniLM.",
    )
    tau_prompt_sem: float = Field(
        default=0.95,
        ge=0.5,
        le=1.0,
        description="The lowest cosine similarity of two prompts that are taken for the same. What it lets through "
        "depends on the model: look at the receipts before you lower it.",
    )
    reuse_k: int = Field(
        default=8, ge=1, le=64, description="How many of the most similar clips are drawn from."
    )
    temperature: float = Field(
        default=0.25,
        gt=0,
        le=100,
        description="How evenly they are drawn: low, mostly the most similar; high, all alike.",
    )
    target_per_prompt: int = Field(
        default=3,
        ge=1,
        le=64,
        description="Clips per prompt that are drawn from. While there are fewer, a new one is made.",
    )
    max_per_prompt: int = Field(
        default=5, ge=1, le=64, description="Most clips of one prompt that are kept."
    )
    cap_strategy: CapStrategy = Field(
        default="diversity",
        description="Which clip of a prompt goes when there are too many: `diversity`, the older of the two whose "
        "spectra are most alike; `quality`, the one that matches its prompt least, which `prompt_match` scores; "
        "`oldest`, the one made first.",
    )
    prefetch_in_background: bool = Field(
        default=False,
        description="Whether missing clips of a prompt are made while the engine has nothing else to do. Tasks "
        "stop it at once; no caller is charged, and no quota counts it.",
    )
    max_new_when_prefetch: int = Field(
        default=2, ge=1, le=64, description="Most clips that one task has made in the background."
    )
    max_bytes: int = Field(
        default=2**28,
        ge=2**20,
        le=2**40,
        description="Memory for the clips in bytes; those that were used longest ago go first.",
    )
    share: bool = Field(
        default=False,
        description="Whether tenants get each other's clips. Then a clip that comes at once, and its receipt, tell a "
        "tenant what another has asked for.",
    )

    @model_validator(mode="after")
    def _room_for_the_target(self) -> Self:
        if self.max_per_prompt < self.target_per_prompt:
            raise ValueError("max_per_prompt must be at least target_per_prompt")
        return self
