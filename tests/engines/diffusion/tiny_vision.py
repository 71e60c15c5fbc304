"""Writes models that look at photos: small, random, and the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)


def write_depth(folder: Path) -> Path:
    """Estimates depth."""
    torch.manual_seed(31)
    settings = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        is_hybrid=False,
        backbone_config=None,
    )
    DPTForDepthEstimation(settings).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def write_segmentation(folder: Path, *, classes: int = 150) -> Path:
    """Tells so many classes apart."""
    torch.manual_seed(32)
    settings = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[4, 2],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        **_any(num_labels=classes),
    )
    SegformerForSemanticSegmentation(settings).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def write_pose(folder: Path, *, joints: int = 17) -> Path:
    """Finds so many joints of a person, and is sure of each of them."""
    torch.manual_seed(33)
    backbone = VitPoseBackboneConfig(
        image_size=[64, 48],
        patch_size=[16, 16],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        **_any(out_indices=[2], out_features=None),
    )
    settings = VitPoseConfig(
        backbone_config=backbone, use_simple_decoder=True, scale_factor=4, **_any(num_labels=joints)
    )
    network = VitPoseForPoseEstimation(settings)
    network.state_dict()["head.conv.bias"].fill_(1.0)
    network.save_pretrained(folder)
    VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(folder)
    return folder


def write_people(folder: Path, *, sees: str) -> Path:
    """Finds things, takes them all for one kind, and is sure of it."""
    torch.manual_seed(34)
    settings = YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 64],
        patch_size=16,
        num_detection_tokens=4,
        **_any(num_labels=2, id2label={0: sees, 1: "stone"}),
    )
    network = YolosForObjectDetection(settings)
    network.state_dict()["class_labels_classifier.layers.2.bias"][0] = 50.0
    network.save_pretrained(folder)
    YolosImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def _any(**settings: object) -> dict[str, Any]:
    """Settings that transformers takes, and does not declare."""
    return settings
