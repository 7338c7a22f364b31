"""Tiny random-weight models of many families, each with its own transformers model and processor class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.models.families.aria import aria
from tests.models.families.blip import blip2, instructblip
from tests.models.families.deepseek import deepseek_vl
from tests.models.families.gemma import gemma3, paligemma
from tests.models.families.glm import glm4v, glm46v
from tests.models.families.idefics import idefics2, idefics3, smolvlm
from tests.models.families.lfm import lfm2_vl
from tests.models.families.llama4 import llama4
from tests.models.families.llava import llava, llava_next, llava_next_video, llava_onevision, vipllava
from tests.models.families.mistral import mistral3, pixtral
from tests.models.families.molmo import molmo2
from tests.models.families.ovis import ovis2
from tests.models.families.perception import perception_lm
from tests.models.families.phi import phi4_multimodal
from tests.models.families.qwen import qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_vl, qwen3_vl_moe
from tests.models.families.tiles import aya_vision, cohere2_vision, internvl, mllama

FAMILIES: dict[str, Callable[[Path], None]] = {
    "LLaVA-1.5": llava,
    "VipLLaVA": vipllava,
    "LLaVA-NeXT": llava_next,
    "LLaVA-NeXT-Video": llava_next_video,
    "LLaVA-OneVision": llava_onevision,
    "Qwen2-VL": qwen2_vl,
    "Qwen2.5-VL": qwen2_5_vl,
    "Qwen3-VL": qwen3_vl,
    "Qwen3-VL-MoE": qwen3_vl_moe,
    "Qwen3.5": qwen3_5,
    "GLM-4V": glm4v,
    "GLM-4.6V": glm46v,
    "Idefics2": idefics2,
    "Idefics3": idefics3,
    "SmolVLM": smolvlm,
    "BLIP-2": blip2,
    "InstructBLIP": instructblip,
    "Gemma 3": gemma3,
    "PaliGemma": paligemma,
    "InternVL": internvl,
    "Aya Vision": aya_vision,
    "Cohere2 Vision": cohere2_vision,
    "Mllama": mllama,
    "Llama 4": llama4,
    "Pixtral": pixtral,
    "Mistral 3": mistral3,
    "LFM2-VL": lfm2_vl,
    "Aria": aria,
    "DeepSeek-VL": deepseek_vl,
    "Molmo 2": molmo2,
    "Ovis2": ovis2,
    "PerceptionLM": perception_lm,
    "Phi-4-multimodal": phi4_multimodal,
}
"""Name to a builder that writes a complete `save_pretrained` folder."""
