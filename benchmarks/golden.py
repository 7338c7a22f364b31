"""Whether two checkouts of Equipoise behave alike, although classes, modules, options and JSON fields were renamed.

```
python benchmarks/golden.py capture --python PYTHON --source CHECKOUT --out FOLDER
python benchmarks/golden.py compare OLD NEW
python benchmarks/golden.py both --old CHECKOUT_OR_COMMIT --new CHECKOUT --python PYTHON [--out FOLDER]
```

`capture` runs the command line of a checkout as subprocesses on inputs of its own, on one thread of the CPU and with
fixed seeds: `testbed pictures`, `perturb` (three ways), `judge rows`, `judge calibrate`, `guard check`,
`guard calibrate`, `audit` (attacked; also defended), `gate` and `power`. FOLDER/golden.json gets what came out, under
neutral names: hashes of decoded pixels, losses of every step, replies, labels, probabilities, counts, intervals,
outcomes. PYTHON needs the requirements of Equipoise; the checkout is found by PYTHONPATH.

`compare` prints every difference and exits with 1 if there is one; numbers must be equal to the last bit. Where
`about` (commit, versions, CPU) differs, that is printed as a note and is no difference.

Pixels and the last digits of probabilities depend on the CPU: on its vector width, kernels add floats in another order.
A kept document, such as benchmarks/results/golden_before.json, is therefore only comparable on the CPU and with the
libraries that it names. `both` captures both checkouts on this machine in one go and is the comparison that counts;
it takes a commit of the old state out into a temporary worktree.

After a renaming, add new names: of verbs and options in `golden_checkout.VERBS`, of fields in `golden_values.FIELDS`,
of labels in `golden_values.SAME_WORD`, of input columns in `golden_inputs.ALIASES`, of gate rules in
`golden_inputs.RULE_WORDS`, of the policy in `POLICY_EDITS`. All of them keep the old name as well.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from golden_checkout import Checkout, CommandError
from golden_inputs import RULE_WORDS, calibration_rows, guard_rows, judge_rows, rules, write_rows
from golden_values import (
    MissingFieldError,
    agreement,
    audited,
    calibrated,
    gated,
    guarded,
    judged,
    perturbed,
    pixels,
    powered,
)

MODEL, BYSTANDER = "testbed/llava", "testbed/internvl"
TOKENS = 16
HELD_OUT = ("What is shown here?", "Where is the star?")
PERTURB: dict[str, dict[str, Any]] = {
    "momentum": {"solver": "momentum", "question": ["What do you see?", "Name the shapes."], "steps": 8, "seed": 3},
    "eot": {"solver": "momentum", "eot": "jpeg,resize,crop,noise", "question": ["What do you see?"], "steps": 3},
    "apgd": {
        "solver": "apgd",
        "question": ["What do you see?"],
        "shadow": "similar",
        "bystander": BYSTANDER,
        "keep_away": True,
        "steps": 3,
    },
}
"""Runs of `perturb` on the same two pictures."""
POWER: dict[str, tuple[str, dict[str, Any]]] = {
    "samples for a change": ("n", {"rate": 0.05, "difference": 0.02}),
    "change of samples": ("difference", {"rate": 0.05, "n": 300}),
    "samples to pass": ("n", {"rate": 0.05, "max": 0.08}),
    "paired": ("n", {"rate": 0.1, "difference": 0.03, "paired": True, "discordant": 0.06}),
}
POLICY_EDITS = ((r"(?m)^threshold = 0\.5", "threshold = 0.2"), (r'(?m)^action = "rewrite"', 'action = "flag"'))
"""What makes a policy of its own out of the default one: the first match of each is replaced."""
VERSIONS = ("torch", "torchvision", "transformers", "numpy", "scipy", "statsmodels", "pillow", "inspect_ai")


def capture(python: str, source: Path, work: Path, jobs: int, only: str = "") -> dict[str, Any]:
    """The golden document of a checkout.

    Args:
        python: interpreter.
        source: the checkout.
        work: an empty folder.
        jobs: commands at a time.
        only: how the names of the steps begin that are taken; all of them by default.
    """
    began = time.monotonic()
    checkout = Checkout(source, python, work)
    checkout.run("pictures", out="pictures", count=2, seed=0)
    (work / "held_out.txt").write_text("\n".join(HELD_OUT) + "\n", encoding="utf-8")
    write_rows(work / "judge.jsonl", judge_rows())
    write_rows(work / "labels.jsonl", calibration_rows())
    write_rows(work / "guard.jsonl", guard_rows())
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            name: pool.submit(timed, name, step, checkout) for name, step in steps().items() if name.startswith(only)
        }
        results = {name: future.result() for name, future in waiting.items()}
    document: dict[str, Any] = {"about": about(checkout, time.monotonic() - began)}
    document["pictures"] = {path.stem: pixels(path) for path in sorted((work / "pictures").glob("*.png"))}
    for name, value in sorted(results.items()):
        verb, _, variant = name.partition(" ")
        document.setdefault(verb, {})[variant or "default"] = value
    return document


Step = Callable[[Checkout], Any]


def steps() -> dict[str, Step]:
    """What is run, the longest first; `VERB VARIANT` is where its values stand in the document."""
    work: dict[str, Step] = {"audit attacked": attacked_audit, "audit defended": defended_audit}
    for name, options in PERTURB.items():
        work[f"perturb {name}"] = lambda checkout, name=name, options=options: perturb(checkout, name, options)
    work["guard testbed"] = lambda c: guard(c, detector="testbed", detoxifier="testbed")
    work["guard embedded"] = lambda c: guard(c, detector="embedded")
    work["guard own-policy"] = own_policy
    work["calibrate"] = lambda c: calibrated(
        c.document("calibrate", labels="guard.jsonl", fpr=0.1, confidence=0.8, detector="testbed")
    )
    for judge in ("ensemble", "phrases"):
        work[f"judge {judge}"] = lambda checkout, judge=judge: judged(
            checkout.run("judge", "judge.jsonl", judge=judge, json=True)[1]
        )
    work["agreement"] = lambda c: agreement(c.document("agreement", labels="labels.jsonl", out="agreement.json"))
    for name, (wanted, options) in POWER.items():
        work[f"power {name}"] = lambda checkout, wanted=wanted, options=options: powered(
            checkout.document("power", **options), wanted
        )
    return work


def timed(name: str, step: Step, checkout: Checkout) -> Any:
    """Do a step; say how long it took."""
    began = time.monotonic()
    value = step(checkout)
    print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return value


def perturb(checkout: Checkout, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """One run of `perturb` on both pictures."""
    out = f"perturb-{name}"
    words = ("pictures/scene-00.png", "pictures/scene-01.png")
    common = {"model": MODEL, "out": out, "heldout": "held_out.txt", "tokens": TOKENS}
    return perturbed(checkout.document("perturb", *words, **common, **options), checkout.work / out)


def guard(checkout: Checkout, **options: Any) -> dict[str, Any]:
    """One run of `guard check`."""
    return guarded(checkout.run("guard", "guard.jsonl", json=True, **options)[1])


def own_policy(checkout: Checkout) -> dict[str, Any]:
    """`guard check` under an edited policy: another threshold and another action."""
    text = checkout.run("policy")[1]
    for pattern, value in POLICY_EDITS:
        text, count = re.subn(pattern, value, text, count=1)
        if not count:
            raise CommandError(f"nothing in the default policy matches {pattern}")
    (checkout.work / "policy.toml").write_text(text, encoding="utf-8")
    return guard(checkout, detector="testbed", policy="policy.toml")


def attacked_audit(checkout: Checkout) -> dict[str, Any]:
    """The default audit, plain and perturbed, small; then the gate over it."""
    common = {"limit": 8, "steps": 3, "pictures": 2, "tokens": TOKENS, "connections": 1}
    checkout.run("audit", out="audit-attacked", json=True, **common)
    return {"run": audited(checkout.work / "audit-attacked"), "gate": gate(checkout, "audit-attacked")}


def defended_audit(checkout: Checkout) -> dict[str, Any]:
    """An audit behind a countermeasure, attacked through it as well."""
    common = {"limit": 3, "steps": 1, "pictures": 1, "tokens": TOKENS, "connections": 1, "seed": 1}
    own = {"suite": "testbed", "attack": "refusal", "defend": "jpeg:quality=75"}
    checkout.run("audit", MODEL, out="audit-defended", json=True, **own, **common)
    return {"run": audited(checkout.work / "audit-defended")}


def gate(checkout: Checkout, run: str) -> dict[str, Any]:
    """Exit code and rules of the gate, in the first words for rules that the checkout knows."""
    for words in RULE_WORDS:
        (checkout.work / "gate.toml").write_text(rules(words), encoding="utf-8")
        codes = (0, 2, 10, 11, 12) if words is not RULE_WORDS[-1] else (0, 10, 11, 12)
        code, stdout = checkout.run("gate", run, rules="gate.toml", json=True, codes=codes)
        if code != 2:
            return {"exit_code": code, **gated(json.loads(stdout))}
    raise CommandError("no words for rules are known")


def about(checkout: Checkout, seconds: float) -> dict[str, Any]:
    """Where the document comes from: commit, versions, CPU. Differences here are no differences of behaviour."""
    code = (
        "import json, platform, torch; from importlib.metadata import version; "
        f"print(json.dumps({{'python': platform.python_version(), **{{n: version(n) for n in {VERSIONS!r}}}, "
        "'vector instructions': torch.backends.cpu.get_cpu_capability()}))"
    )
    git = ["git", "-C", str(checkout.source)]
    last = [*git, "log", "-1", "--format=%H", "--", "src"]  # later commits may touch tests, docs and benchmarks alone
    commit = subprocess.run(last, capture_output=True, text=True).stdout.strip()
    status = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit or "unknown",
        "source changed since": bool(status),
        "versions": json.loads(checkout.evaluate(code)),
        "cpu": cpu(),
        "threads": 1,
        "seconds": round(seconds),
    }


def cpu() -> dict[str, str]:
    """Name and machine type of the CPU."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return {"name": match.group(1) if match else platform.processor(), "machine": platform.machine()}


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """A line for every value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys(), key=str):
            inner = f"{path}/{name}"
            if name not in new:
                yield f"{inner}: only in the old one"
            elif name not in old:
                yield f"{inner}: only in the new one"
            else:
                yield from differences(old[name], new[name], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from differences(before, after, f"{path}/{number}")
    elif type(old) is not type(new) or old != new:
        yield f"{path}: {json.dumps(old)} -> {json.dumps(new)}"


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> int:
    """Print all differences of two documents; 1 if there are any, else 0."""
    for line in differences(old["about"], new["about"], "about"):
        print(f"note: {line}")
    rows = list(differences(*({k: v for k, v in document.items() if k != "about"} for document in (old, new))))
    print("\n".join(rows) if rows else "no difference")
    if rows:
        print(f"{len(rows)} differences")
    return int(bool(rows))


@contextmanager
def taken_out(old: str, repository: Path) -> Iterator[Path]:
    """The checkout that a folder or a commit of a repository names; a commit's is removed again."""
    if Path(old).is_dir():
        yield Path(old)
        return
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "old"
        git = ["git", "-C", str(repository), "worktree"]
        subprocess.run([*git, "add", "--detach", str(target), old], check=True, capture_output=True)
        try:
            yield target
        finally:
            subprocess.run([*git, "remove", "--force", str(target)], check=True, capture_output=True)


def captured(options: argparse.Namespace, source: Path, out: Path) -> dict[str, Any]:
    """Capture a checkout into OUT/golden.json."""
    print(f"capturing {source}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        document = capture(options.python, source, Path(work), options.jobs, options.only)
    out.mkdir(parents=True, exist_ok=True)
    (out / "golden.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"written: {out / 'golden.json'}", file=sys.stderr)
    return document


def read(path: Path) -> dict[str, Any]:
    """A document, from its file or the folder of a capture."""
    return json.loads((path / "golden.json" if path.is_dir() else path).read_text(encoding="utf-8"))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one, two, pair = (verbs.add_parser(name) for name in ("capture", "both", "compare"))
    for verb in (one, two):
        verb.add_argument("--python", default=sys.executable, help="an interpreter with the requirements")
        verb.add_argument("--jobs", type=int, default=2, help="commands at a time")
        verb.add_argument("--only", default="", help="only steps whose name begins so, such as perturb or 'guard own'")
    one.add_argument("--source", type=Path, required=True, help="a checkout")
    one.add_argument("--out", type=Path, required=True, help="folder for golden.json")
    two.add_argument("--old", required=True, help="a checkout, or a commit of the repository of --new")
    two.add_argument("--new", type=Path, required=True, help="a checkout")
    two.add_argument("--out", type=Path, help="folder for old/golden.json and new/golden.json")
    pair.add_argument("old", type=Path)
    pair.add_argument("new", type=Path)
    options = parser.parse_args()
    try:
        if options.verb == "capture":
            captured(options, options.source, options.out)
            return 0
        if options.verb == "compare":
            return compare(read(options.old), read(options.new))
        with taken_out(options.old, options.new) as source, tempfile.TemporaryDirectory() as folder:
            out = options.out or Path(folder)
            old = captured(options, source, out / "old")
            new = captured(options, options.new, out / "new")
        return compare(old, new)
    except (CommandError, MissingFieldError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
