"""The four networks: Stable Diffusion XL's architecture, with few and narrow layers.

Sizes were chosen for two CPU cores: one image in four steps takes well under half a second and
the weights fit into 24 MB of fp16.
"""

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SCALING = 0.13025
"""SDXL's factor between the autoencoder's latents and the denoiser's."""

TOKENS = 77
_HIDDEN = (64, 128)
_TIME_EMBEDDING = 32
_TIME_IDS = 6


def autoencoder() -> AutoencoderKL:
    """[n, 3, 128, 128] in -1..1 to [n, 4, 16, 16] and back."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=SCALING,
        force_upcast=False,
    )


def denoiser() -> UNet2DConditionModel:
    """SDXL's block order: convolutions on the finest level, attention on the two below."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(2, 4, 5),
        cross_attention_dim=sum(_HIDDEN),
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_EMBEDDING,
        projection_class_embeddings_input_dim=_TIME_IDS * _TIME_EMBEDDING + _HIDDEN[1],
        use_linear_projection=True,
        norm_num_groups=16,
    )


def _text(hidden: int, heads: int, vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 4,
        num_hidden_layers=3,
        num_attention_heads=heads,
        max_position_embeddings=TOKENS,
        projection_dim=_HIDDEN[1],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        hidden_act="quick_gelu" if hidden == _HIDDEN[0] else "gelu",
    )


def first_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Token ids to one vector a token, of the last layer but one."""
    return CLIPTextModel(_text(_HIDDEN[0], 2, vocabulary))


def second_text_encoder(vocabulary: int) -> CLIPTextModelWithProjection:
    """As the first, and one vector for the whole caption."""
    return CLIPTextModelWithProjection(_text(_HIDDEN[1], 4, vocabulary))


def scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule, set for few steps: v-prediction with trailing time steps."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def signal_shares() -> torch.Tensor:
    """[1000]: the share of signal variance left after each training time step."""
    return scheduler().alphas_cumprod
