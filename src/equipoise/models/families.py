"""Every model type that reads pictures and writes text, with a verdict: the one table of `doctor`, `load` and the docs.

Reading it needs neither torch nor transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from equipoise.errors import ModelError

FamilyVerdict = Literal["checked", "untested", "asks", "no"]
VERDICTS: Final[dict[FamilyVerdict, str]] = {
    "checked": "a tiny model passes every check of the test suite",
    "untested": "nothing known speaks against it, and no test builds one; the model layer compares its short cuts with "
    "plain passes at first use",
    "asks": "it can be asked, and not attacked",
    "no": "it is refused on loading",
}
"""What each verdict means."""


@dataclass(frozen=True)
class ModelFamily:
    """One model type, or one of several families of a type."""

    kind: str
    """`model_type` in a model's config.json."""
    title: str
    """What people call it."""
    verdict: FamilyVerdict
    """What works; a key of `VERDICTS`."""
    note: str = ""
    """Why, or what is particular."""
    plain: bool = False
    """Whether its releases have no chat template, so that a prompt is the picture and the text."""
    alone: bool = False
    """Whether prompts in one batch disturb each other, so that they are asked one after the other."""
    package: str = ""
    """A package that the family's processor or tower needs beside those of the extra `models`."""


_CHECKED: Final = (
    ("llava", "LLaVA-1.5"),
    ("vipllava", "VipLLaVA"),
    ("llava_next", "LLaVA-NeXT"),
    ("llava_next_video", "LLaVA-NeXT-Video"),
    ("llava_onevision", "LLaVA-OneVision"),
    ("qwen2_vl", "Qwen2-VL"),
    ("qwen2_5_vl", "Qwen2.5-VL"),
    ("qwen3_vl", "Qwen3-VL"),
    ("qwen3_vl_moe", "Qwen3-VL-MoE"),
    ("qwen3_5", "Qwen3.5"),
    ("glm4v", "GLM-4V"),
    ("glm46v", "GLM-4.6V"),
    ("idefics2", "Idefics2"),
    ("idefics3", "Idefics3"),
    ("gemma3", "Gemma 3"),
    ("internvl", "InternVL"),
    ("aya_vision", "Aya Vision"),
    ("cohere2_vision", "Cohere2 Vision"),
    ("mllama", "Mllama"),
    ("llama4", "Llama 4"),
    # Pixtral's configs name LLaVA as their type.
    ("llava", "Pixtral"),
    ("mistral3", "Mistral 3"),
    ("lfm2_vl", "LFM2-VL"),
    ("aria", "Aria"),
    ("deepseek_vl", "DeepSeek-VL"),
    ("molmo2", "Molmo 2"),
    ("ovis2", "Ovis2"),
    ("phi4_multimodal", "Phi-4-multimodal"),
)
_CHECKED_PLAIN: Final = (("blip-2", "BLIP-2"), ("instructblip", "InstructBLIP"), ("paligemma", "PaliGemma"))
_UNTESTED: Final = (
    *("cohere_compass", "cosmos3_edge", "cosmos3_omni", "deepseek_ocr2"),
    *("deepseek_vl_hybrid", "dots3_note", "ernie4_5_vl_moe", "exaone4_5", "fast_vlm", "gemma3n"),
    *("gemma4", "gemma4_unified", "glm4v_moe", "glm5_next", "glm_ocr", "glmga", "granite4_vision"),
    *("granite_docling", "hunyuan_vl", "hyperclovax_vision_v2", "inkling2", "inkling_mm_model", "janus"),
    *("kimi_k25", "lfm3_vl", "lighton_ocr", "minicpm_ocr", "minicpmv4_6"),
    *("minicpmv4_7", "minimax_m3_vl", "mistral4", "mistral_large4", "muse_glimmer", "muse_spark"),
    *("nemotron_h_omni", "paddleocr_vl", "qianfan_ocr", "qwen2_5_omni_thinker"),
    *("qwen3_5_moe", "qwen3_omni_moe_thinker", "qwen4_exp", "step3p7", "unlimited_ocr"),
    "video_llama_3",
)

FAMILIES: Final[tuple[ModelFamily, ...]] = (
    *(ModelFamily(kind, title, "checked") for kind, title in _CHECKED),
    *(ModelFamily(kind, title, "checked", plain=True) for kind, title in _CHECKED_PLAIN),
    ModelFamily("smolvlm", "SmolVLM", "checked", "its processor needs the package num2words", package="num2words"),
    *(ModelFamily(kind, kind, "untested") for kind in _UNTESTED),
    ModelFamily(
        "perception_lm",
        "PerceptionLM",
        "checked",
        "its tower needs the package timm; questions are asked one by one",
        alone=True,
        package="timm",
    ),
    ModelFamily("t5gemma2", "T5Gemma 2", "untested", "an encoder reads the prompt"),
    ModelFamily("blip", "BLIP", "asks", "it reads the picture apart from the text", plain=True),
    ModelFamily("git", "GIT", "asks", "it reads the picture apart from the text", plain=True),
    ModelFamily("kosmos-2", "Kosmos-2", "asks", "its processor marks the picture's place by itself", plain=True),
    ModelFamily("kosmos-2.5", "Kosmos-2.5", "asks", "its processor marks the picture's place by itself", plain=True),
    ModelFamily("chameleon", "Chameleon", "asks", "pictures become discrete tokens, without a gradient", plain=True),
    ModelFamily("emu3", "Emu3", "asks", "pictures become discrete tokens, without a gradient", alone=True),
    ModelFamily("video_llava", "Video-LLaVA", "asks", "its processor passes no gradient"),
    ModelFamily("instructblipvideo", "InstructBLIP for videos", "no", "it reads videos", plain=True),
    ModelFamily("florence2", "Florence-2", "no", "it answers task tokens such as <CAPTION>, not questions", plain=True),
    ModelFamily(
        "fuyu", "Fuyu", "no", "its processor writes the picture into the prompt in a way of its own", plain=True
    ),
    ModelFamily("got_ocr2", "GOT-OCR 2", "no", "it transcribes pictures and answers no questions"),
    ModelFamily("pp_chart2table", "PP-Chart2Table", "no", "it transcribes pictures and answers no questions"),
    ModelFamily("pp_formulanet", "PP-FormulaNet", "no", "it transcribes pictures and answers no questions"),
    ModelFamily("pix2struct", "Pix2Struct", "no", "it draws the question into the picture", plain=True),
    ModelFamily("idefics", "IDEFICS 1", "no", "its processor takes pictures between the words of a list", plain=True),
    ModelFamily("udop", "UDOP", "no", "it reads words with their places on a page", plain=True),
    ModelFamily("vision-encoder-decoder", "vision encoder-decoder", "no", "it reads no text", plain=True),
    ModelFamily("shieldgemma2", "ShieldGemma 2", "no", "it classifies pictures by a policy and writes no replies"),
    ModelFamily("evolla", "Evolla", "no", "it reads proteins, not pictures"),
    ModelFamily("pi0", "pi0", "no", "it moves robots and writes no replies"),
    ModelFamily(
        "diffusion_gemma", "DiffusionGemma", "no", "it writes by diffusion, so that a reply has no probability"
    ),
)
"""In the order of the documentation."""

PLAIN_PROMPTS: Final = frozenset(family.kind for family in FAMILIES if family.plain)
"""Types whose releases have no chat template."""
ALONE: Final = frozenset(family.kind for family in FAMILIES if family.alone)
"""Types whose prompts are asked one after the other."""


def families_of(kind: str) -> tuple[ModelFamily, ...]:
    """The families of a model type; empty for a type that is newer than the table."""
    return tuple(family for family in FAMILIES if family.kind == kind)


def require_supported(kind: str, name: str) -> None:
    """Refuse a model type that cannot work.

    Args:
        kind: `model_type` of its configuration.
        name: what the user calls the model.

    Raises:
        ModelError: its verdict is `no`.
    """
    for family in families_of(kind):
        if family.verdict == "no":
            raise ModelError(
                f"expected a model that answers questions about pictures, got {name!r}, a {family.title} model: "
                f"{family.note}; try a family that `equipoise doctor` lists"
            )
