"""IBM's harm-correction adapter for Granite Guardian as a detoxifier.

Source: the cookbook `granite-guardian-3.2-lora/harm_correction_guide_vllm.ipynb` of ibm-granite/granite-guardian, for
ibm-granite/granite-guardian-3.2-5b-lora-harm-correction. The adapter continues a conversation in which Granite
Guardian has just called the reply harmful. The cookbook generates that verdict with the guardian. Here the harm
detector has decided already, so the verdict is inserted as text and only the adapter generates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from equipoise.errors import MissingExtraError, ModelError, first_line
from equipoise.files import folder_hash
from equipoise.guard.detoxifier.trained_detoxifier import NEW_TOKENS, TrainedDetoxifier, fitted
from equipoise.guard.tokens import ids_of, spelled_out
from equipoise.judges.run_judge import digest

VERDICT: Final = "Yes\n<confidence> High </confidence>"
"""The guardian's output for a harmful reply."""
CORRECTION: Final = "\n<|end_of_text|>\n<|start_of_role|>correction<|end_of_role|>"
"""Ends the guardian's turn and opens the corrector's."""
RISK: Final = {"risk_name": "harm"}
VERSION: Final = 1


def correction_ids(tokenizer: Any, question: str, response: str, room: int) -> list[int]:
    """Token ids of the conversation up to where the correction begins; at most `room`, by cutting the response.

    Args:
        tokenizer: Granite Guardian's; its chat template holds the guardian's instruction.
        question: what was asked.
        response: what is to be corrected.
        room: the most tokens.
    """

    def composed(question: str, response: str) -> list[int]:
        texts = [spelled_out(tokenizer, text) for text in (question, response)]
        messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
        judged = tokenizer.apply_chat_template(
            messages, guardian_config=RISK, tokenize=False, add_generation_prompt=True
        )
        return ids_of(tokenizer, f"{judged}{VERDICT}{CORRECTION}")

    return fitted(tokenizer, composed, question, response, room)


def read(name: str, *, device: str | None = None, dtype: str | None = None) -> TrainedDetoxifier:
    """Load the adapter and the base model that its configuration names, and merge them.

    Args:
        name: a folder, or the adapter's name on the hub.
        device: where it computes; the CPU by default.
        dtype: number format of the weights; float32 on the CPU and bfloat16 elsewhere by default.

    Raises:
        ModelError: no adapter there, or its base is no Granite Guardian.
        MissingExtraError: peft is not installed.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from equipoise.models.unreadable import raised

    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[models]'") from error
    folder = _folder(name)
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = _folder(settings["base_model_name_or_path"])
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        if "guardian_config" not in (tokenizer.chat_template or ""):
            raise ModelError(
                f"expected an adapter for Granite Guardian, got {name} for {base}, whose chat template knows no "
                "guardian_config; try a folder of `equipoise train detoxifier`"
            )
        dtype = dtype or ("float32" if (device or "cpu") == "cpu" else "bfloat16")
        guardian: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, trust_remote_code=False)
        model: Any = PeftModel.from_pretrained(guardian, str(folder))
        model = model.merge_and_unload().to(device or "cpu").eval()
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"expected a LoRA adapter for Granite Guardian in {name}, got: {raised(error)}") from error
    known = digest([VERSION, VERDICT, CORRECTION, NEW_TOKENS, folder_hash(folder), folder_hash(base)])
    return TrainedDetoxifier(model, tokenizer, name=f"granite:{folder.name}", identity=known, form=correction_ids)


def _folder(name: str) -> Path:
    """A folder as it is, or the hub's snapshot of a name.

    Raises:
        ModelError: neither.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise ModelError(f"expected a folder or a model on the hub, got {name!r}: {reason}; try a folder") from None
