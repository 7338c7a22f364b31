"""From MiniLM's files to the network of the encoder judge, and from trained weights to the files that ship."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from equipoise.judges.encoder_network import Encoder, EncoderShape
from equipoise.judges.int8 import quantize_rows

BASE = "model.safetensors"
CARD = """# The encoder judge: does a reply refuse?

Probabilities of none, partial and full over a prompt and the reply to it, in English. `docs/judges.md` holds how well
it agrees with people and how that was measured; it is wrong now and then, and its labels are not about harm.

| file | bytes | sha256 |
|---|---:|---|
{hashes}

- **Base**: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0, text in `LICENSE-MiniLM.txt`), `model.safetensors` with
  sha256 `{base}`. Changed: word pieces that no training
  text holds are left out, the four upper layers are trained further, a head and a linear part over runs of word pieces
  are added, and the matrices are rounded to 8-bit integers with a scale for each row.
- **Made by** `python benchmarks/train_encoder.py --base MINILM --work FOLDER --ship src/equipoise/judges/weights`
  (seed 0, bf16 autocast on one core; other processors round differently).
- **Licence** of the trained weights: Apache-2.0, like their base. XSTest (Roettger et al. 2023) and MSTS (Roettger et
  al. 2025) are CC-BY-4.0; the replies in these sets come from models whose makers have terms of their own.

Trained on:

| set | rows | licence | label |
|---|---:|---|---|
{trained}
"""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def pruned_tokenizer(base: Path, texts: Iterable[str], work: Path) -> Tokenizer:
    """MiniLM's tokenizer with only the word pieces that occur in these texts, and all single Latin characters.

    Anything else is still read, in smaller pieces.
    """
    whole = Tokenizer.from_file(str(base / "tokenizer.json"))
    whole.no_padding()
    whole.no_truncation()
    used = {
        piece for encoding in whole.encode_batch(list(texts), add_special_tokens=False) for piece in encoding.tokens
    }
    form = json.loads((base / "tokenizer.json").read_text())
    known = form["model"]["vocab"]
    single = {piece for piece in known if len(piece.removeprefix("##")) == 1 and ord(piece[-1]) < 0x250}
    kept = [piece for piece in sorted(known, key=known.get) if piece in used | single | set(SPECIAL)]
    form["model"]["vocab"] = {piece: index for index, piece in enumerate(kept)}
    form["padding"] = form["truncation"] = form["post_processor"] = None
    form["added_tokens"] = [
        {**token, "id": kept.index(token["content"])} for token in form["added_tokens"] if token["content"] in kept
    ]
    (work / "tokenizer.json").write_text(json.dumps(form, ensure_ascii=False))
    return Tokenizer.from_file(str(work / "tokenizer.json"))


def start(base: Path, tokenizer: Tokenizer, positions: int, dropout: float = 0.0) -> Encoder:
    """The network with MiniLM's weights and a head of zeros."""
    tensors = load_file(base / "model.safetensors")
    whole = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    state = {
        "tokens.weight": tensors["embeddings.word_embeddings.weight"][[whole[piece] for piece, _ in pieces]],
        "places.weight": tensors["embeddings.position_embeddings.weight"][:positions]
        + tensors["embeddings.token_type_embeddings.weight"][0],
        "embedded_norm.weight": tensors["embeddings.LayerNorm.weight"],
        "embedded_norm.bias": tensors["embeddings.LayerNorm.bias"],
    }
    shape = EncoderShape(len(pieces), positions)
    names = {
        "attended": "attention.output.dense", "attended_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense", "down": "output.dense", "down_norm": "output.LayerNorm",
    }  # fmt: skip
    for layer in range(shape.layers):
        theirs, ours = f"encoder.layer.{layer}", f"layers.{layer}"
        for kind in ("weight", "bias"):
            parts = [tensors[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"{ours}.mixed.{kind}"] = torch.cat(parts)
            state |= {f"{ours}.{name}.{kind}": tensors[f"{theirs}.{other}.{kind}"] for name, other in names.items()}
    state |= {"head.weight": torch.zeros(3, 2 * shape.width), "head.bias": torch.zeros(3)}
    model = Encoder(shape, dropout)
    model.load_state_dict(state)
    return model


def quantised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as 8-bit integers with one scale a row; the head and all vectors in 32 bits, the runs in 16."""
    kept = {name: value.contiguous() for name, value in state.items() if name == "grams"}
    rest = {name: value for name, value in state.items() if name not in kept}
    return kept | quantize_rows(rest, lambda name: not name.startswith("head"))


def write_weights(folder: Path, state: dict[str, Tensor], work: Path, settings: dict[str, object]) -> None:
    """Weights, tokenizer and settings as `EncoderJudge` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(quantised(state), folder / "encoder.safetensors")
    shutil.copyfile(work / "tokenizer.json", folder / "tokenizer.json")
    (folder / "encoder.json").write_text(json.dumps(settings, indent=2) + "\n")


def write_card(folder: Path, base: Path, sources: list[tuple[int, str, str, str]]) -> None:
    """README.md beside the weights: what they are, whose, made from what and how."""
    files = [folder / name for name in ("encoder.safetensors", "tokenizer.json", "encoder.json")]
    hashes = "\n".join(f"| `{path.name}` | {path.stat().st_size} | `{_sha256(path)}` |" for path in files)
    trained = "\n".join(f"| {name} | {count} | {licence} | {label} |" for count, name, licence, label in sources)
    (folder / "README.md").write_text(CARD.format(hashes=hashes, trained=trained, base=_sha256(base / BASE)))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
