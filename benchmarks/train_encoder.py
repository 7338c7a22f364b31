"""Train the encoder judge: a pilot that choices are made on, weights held out by model, and the weights that ship.

    OMP_NUM_THREADS=1 python benchmarks/train_encoder.py --base MINILM --work FOLDER [--ship FOLDER]

`MINILM` is a folder with all-MiniLM-L6-v2 (Apache-2.0): model.safetensors and tokenizer.json. Everything else comes
from EQUIPOISE_SHARED_DATA. Kill it and start it again: it goes on from its last checkpoint. About 45 minutes on one
core.

The lowest layers are frozen, and their output is computed once for all runs, which more than halves the time.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from encoder_grams import fit_grams, gram_logits
from encoder_rows import LABELS, SOURCES, Row, first_lessons, phtest, xstest
from encoder_weights import pruned_tokenizer, start, write_card, write_weights
from equipoise.judges.encoder_input import EncodedExchange, EncoderWindow
from equipoise.judges.encoder_network import Encoder
from equipoise.stats.agreement import cohen_kappa
from equipoise.training.loop import TrainingLoop, seeded

FOLDS = 3
FROZEN = 2
BATCH = 16
RATE, HEAD_RATE = 6e-5, 1e-3
FIRST_EPOCHS, EPOCHS = 2, 3
CHECKPOINT_EVERY = 100
"""Steps between checkpoints."""
TEMPERATURE = 1.5
"""Of the softmax over network and linear part together: least log-loss on the validation rows."""
BLANK = 0.1
"""Share of training rows whose prompt is left out, so that the reply itself is read."""


def fold_of(row: Row) -> int:
    """Which fold holds a model out: models in alphabetical order, dealt out within each set."""
    return MODELS[row.source].index(row.model) % FOLDS


@dataclass(frozen=True)
class Run:
    """One training run."""

    name: str
    """Of its files in the work folder."""
    rows: list[int]
    """Indices of the rows that are learned."""
    epochs: int
    """Times over the rows."""
    after: str | None = None
    """The run whose weights it starts from; None starts from the base."""


class EncoderTraining:
    """The hidden states of the rows after the frozen layers, and the layers that are trained on top.

    Args:
        base: folder of all-MiniLM-L6-v2.
        work: folder for checkpoints and predictions.
    """

    def __init__(self, base: Path, work: Path) -> None:
        self.work, self.base = work, base
        self.rows = [*first_lessons(), *LABELLED]
        self.first = len(self.rows) - len(LABELLED)
        self.tokenizer = pruned_tokenizer(
            base, [t for r in self.rows if is_training_row(r) for t in (r.prompt, r.reply)], work
        )
        random_ = random.Random(0)
        prompts = ["" if random_.random() < BLANK and is_training_row(row) else row.prompt for row in self.rows]
        self.window = EncoderWindow()
        texts = [(prompt, row.reply) for prompt, row in zip(prompts, self.rows, strict=True)]
        self.pieces = self.window.read(self.tokenizer, texts)
        self.model = start(base, self.tokenizer, self.window.longest)
        self.hidden = [self._lower(pieces) for pieces in self.pieces]

    @torch.inference_mode()
    def _lower(self, pieces: EncodedExchange) -> Tensor:
        ids = torch.tensor([pieces.ids])
        return self.model.run(self.model.embed(ids), None, 0, FROZEN)[0].to(torch.bfloat16)

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden states, mask and reply positions of some rows, padded."""
        longest = max(len(self.hidden[index]) for index in chosen)
        hidden = torch.zeros(len(chosen), longest, self.model.shape.width)
        mask, reply = torch.zeros(2, len(chosen), longest, dtype=torch.bool)
        for position, index in enumerate(chosen):
            length = len(self.hidden[index])
            hidden[position, :length] = self.hidden[index].float()
            mask[position, :length] = True
            reply[position, self.pieces[index].reply : length] = True
        return hidden, mask, reply

    def logits(self, model: Encoder, chosen: Sequence[int]) -> Tensor:
        """Of some rows, [rows, labels]."""
        hidden, mask, reply = self.batch(chosen)
        with torch.autocast("cpu", torch.bfloat16, enabled=model.training):
            hidden = model.run(hidden, mask, FROZEN)
        return model.classify(hidden.float(), reply)

    def judge(self, model: Encoder, chosen: Sequence[int]) -> Tensor:
        """Probabilities of some rows, [rows, labels], in their order."""
        model.eval()
        order = sorted(chosen, key=lambda index: len(self.hidden[index]))
        probabilities: dict[int, Tensor] = {}
        with torch.inference_mode():
            for at in range(0, len(order), 32):
                part = order[at : at + 32]
                probabilities |= dict(zip(part, self.logits(model, part).softmax(-1), strict=True))
        return torch.stack([probabilities[index] for index in chosen])

    def batches(self, rows: Sequence[int], seed: int) -> list[list[int]]:
        """The rows in random batches of similar length."""
        random_ = random.Random(seed)
        order = sorted(rows, key=lambda index: len(self.hidden[index]) + 12 * random_.random())
        parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        random_.shuffle(parts)
        return parts

    def train(self, run: Run, held_out: Sequence[int] = ()) -> Encoder:
        """Train as the run says, or go on where an earlier call stopped.

        Args:
            run: rows and epochs.
            held_out: rows that kappa is printed on after every epoch.
        """
        with seeded(0):
            model = start(self.base, self.tokenizer, self.window.longest, dropout=0.1)
        if run.after:
            model.load_state_dict(torch.load(self.work / run.after / "checkpoint.pt")["state"]["model"])
        trained = [p for name, p in model.named_parameters() if name.startswith("layers") and int(name[7]) >= FROZEN]
        optimizer = torch.optim.AdamW(
            [{"params": trained, "peak": RATE}, {"params": list(model.head.parameters()), "peak": HEAD_RATE}],
            weight_decay=0.01,
        )
        batches = [part for epoch in range(run.epochs) for part in self.batches(run.rows, epoch)]

        def report(done: int, steps: int, loss: float) -> None:
            if done % (steps // run.epochs) == 0:
                self.report(run, model, held_out, f"step {done}/{steps} loss {loss:.3f}")

        recipe = {"rows": run.rows, "epochs": run.epochs, "after": run.after}
        loop = TrainingLoop(self.work / run.name, len(batches), recipe, CHECKPOINT_EVERY)
        loop.run(
            lambda number: {"loss": self.step(model, optimizer, batches[number], number, len(batches))},
            {"model": model, "optimizer": optimizer},
            report,
        )
        return model

    def step(self, model: Encoder, optimizer: torch.optim.Optimizer, part: list[int], step: int, steps: int) -> float:
        """One step of AdamW: warm-up over 6 %, then linear decay."""
        model.train()
        share = min((step + 1) / (0.06 * steps), (steps - step) / (0.94 * steps))
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        truth = torch.tensor([LABELS.index(self.rows[index].label) for index in part])
        with seeded(step):
            loss = functional.cross_entropy(self.logits(model, part), truth, label_smoothing=0.05)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def report(self, run: Run, model: Encoder, held_out: Sequence[int], text: str) -> None:
        """Print a line on the training, with kappa on held-out rows where there are any."""
        for source in ("xstest", "phtest"):
            rows = [index for index in held_out if self.rows[index].source == source]
            if rows:
                refuses = self.judge(model, rows)[:, 0] < 0.5
                truth = torch.tensor([self.rows[index].label != "none" for index in rows])
                cells = [int((a & b).sum()) for a in (refuses, ~refuses) for b in (truth, ~truth)]
                kappa = cohen_kappa(cells[0], cells[1], cells[2], cells[3])
                text += f", {source} kappa {kappa if kappa is None else round(kappa, 3)} of {len(rows)}"
        print(f"{run.name}: {text}", flush=True)

    def grams(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The linear part, fitted to these rows and those of the first stage."""
        chosen = [*range(self.first), *rows]
        truth = [LABELS.index(self.rows[index].label) for index in chosen]
        return fit_grams([self.pieces[index] for index in chosen], truth)

    def keep(self, name: str, model: Encoder, trained_on: Sequence[int], chosen: Sequence[int]) -> None:
        """Write the probabilities of network and linear part together beside the rows they are of."""
        added = gram_logits([self.pieces[index] for index in chosen], *self.grams(trained_on))
        both = ((self.judge(model, chosen).log() + added) / TEMPERATURE).softmax(-1)
        lines = [
            {
                "source": row.source, "model": row.model, "prompt": row.prompt, "reply": row.reply, "label": row.label,
                "probabilities": [round(float(value), 5) for value in probabilities],
            }
            for row, probabilities in zip((self.rows[i] for i in chosen), both, strict=True)
        ]  # fmt: skip
        (self.work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def ship(self, folder: Path, model: Encoder, trained_on: Sequence[int]) -> None:
        """Write what `EncoderJudge` loads; the linear part's bias goes into the head's."""
        weights, bias = self.grams(trained_on)
        state = model.state_dict() | {"grams": weights, "head.bias": model.head.bias.detach() + bias}
        settings = {"shape": vars(model.shape), "window": vars(self.window), "temperature": TEMPERATURE}
        write_weights(folder, state, self.work, settings)
        counts = Counter(self.rows[index].source for index in [*range(self.first), *trained_on])
        write_card(folder, self.base, [(counts[source], *about) for source, about in SOURCES.items()])


LABELLED = [*xstest(), *phtest()]
MODELS = {source: sorted({row.model for row in LABELLED if row.source == source}) for source in ("xstest", "phtest")}
HELD_OUT_KEYS = {row.key for row in LABELLED if not row.development}


def is_training_row(row: Row) -> bool:
    """Whether a row may be trained on: its prompt is in no held-out row."""
    return row.source not in MODELS or (row.development and row.key not in HELD_OUT_KEYS and bool(row.reply))


def main() -> int:
    """Pilot, folds, and what ships."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and predictions")
    parser.add_argument("--only", help="stop after this run")
    parser.add_argument("--ship", type=Path, help="write the trained weights into this folder")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    training = EncoderTraining(arguments.base, arguments.work)
    second = range(training.first, len(training.rows))
    training_rows = [index for index in second if is_training_row(training.rows[index])]
    validation = [index for index in training_rows if training.rows[index].validation]
    held_out = [index for index in second if not training.rows[index].development]
    print(f"{training.first} rows first, {len(training_rows)} then, {len(held_out)} held out", flush=True)
    training.train(Run("first", list(range(training.first)), FIRST_EPOCHS), validation)
    pilot = Run("pilot", [i for i in training_rows if not training.rows[i].validation], EPOCHS, "first")
    model = training.train(pilot, validation)
    training.keep("validation", model, pilot.rows, validation)
    if arguments.only == "pilot":
        return 0
    model = training.train(Run("shipped", training_rows, EPOCHS, "first"))
    training.keep("held-out-by-prompt", model, training_rows, held_out)
    if arguments.ship:
        training.ship(arguments.ship, model, training_rows)
    for fold in range(FOLDS):
        rows = [index for index in training_rows if fold_of(training.rows[index]) != fold]
        model = training.train(Run(f"without-{fold}", rows, EPOCHS, "first"))
        training.keep(
            f"held-out-by-model-{fold}", model, rows, [i for i in held_out if fold_of(training.rows[i]) == fold]
        )
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
