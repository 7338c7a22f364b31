"""All suites by name, and `load_suite`, which loads the suite that a user names."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from equipoise.data.packed_files import PACKERS
from equipoise.data.sample_pictures import check_pictures
from equipoise.data.subset import choose_subset
from equipoise.data.suites import (
    coconot,
    contrast,
    everyday,
    figstep,
    generic,
    harmbench,
    jailbreakbench,
    mm_safetybench,
    mossbench,
    msts,
    phtest,
    prompt_lists,
    safeguard_pairs,
    situations,
    visual_questions,
    vlguard,
    xstest,
)
from equipoise.data.tables import SUFFIXES, is_table
from equipoise.errors import UsageError, first_line
from equipoise.files import is_folder, path_exists
from equipoise.types import Sample, sample_values


@dataclass(frozen=True)
class Suite:
    """A test suite: samples under one name."""

    name: str
    """Such as `xstest`; rates are reported under it."""
    samples: tuple[Sample, ...]
    """All of them; those that cannot be evaluated say why in `problem`."""
    source: str
    """Where the copy was read from."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know: samples that cannot be evaluated, the size of a subset."""

    @cached_property
    def sha256(self) -> str:
        """Over all samples, the bytes of their pictures included."""
        return _fingerprint(self.samples)


@dataclass(frozen=True)
class PublishedSuite:
    """A published suite: its loader, its source and its licence."""

    load: Callable[[Path], list[Sample]]
    """From a folder."""
    about: str
    """In one line."""
    source: str
    """Where to get it."""
    licence: str
    """As its publishers state it."""


_MM: Final = "github.com/isXinLiu/MM-SafetyBench"
_MM_LICENCE: Final = "CC-BY-NC-4.0"

SUITES: Final[dict[str, PublishedSuite]] = {
    "xstest": PublishedSuite(
        xstest.load,
        "safe prompts that sound unsafe, and their contrasts",
        "github.com/paul-rottger/xstest",
        "CC-BY-4.0",
    ),
    "or-bench/hard-1k": PublishedSuite(
        prompt_lists.OR_BENCH_HARD,
        "prompts that several large models refuse",
        "hf.co/datasets/bench-llm/or-bench",
        "CC-BY-4.0",
    ),
    "or-bench/80k": PublishedSuite(
        prompt_lists.OR_BENCH_80K, "harmless prompts that sound toxic", "hf.co/datasets/bench-llm/or-bench", "CC-BY-4.0"
    ),
    "phtest": PublishedSuite(phtest.load, "pseudo-harmful prompts", "github.com/umd-huang-lab/FalseRefusal", "MIT"),
    "oktest": PublishedSuite(
        prompt_lists.OKTEST, "safe questions with alarming words", "github.com/InvokerStark/OverKill", "not stated"
    ),
    "falsereject": PublishedSuite(
        prompt_lists.FALSE_REJECT,
        "benign prompts that sound toxic",
        "hf.co/datasets/AmazonScience/FalseReject",
        "CC-BY-NC-4.0",
    ),
    "alpaca-harmless": PublishedSuite(
        prompt_lists.ALPACA, "ordinary instructions", "github.com/andyrdt/refusal_direction", "CC-BY-NC-4.0"
    ),
    "safeguard-pairs": PublishedSuite(
        safeguard_pairs.load, "pairs of harm and good", "github.com/chujiezheng/LLM-Safeguard", "not stated"
    ),
    "coconot": PublishedSuite(
        coconot.load, "requests not to comply with, and contrasts", "github.com/allenai/noncompliance", "MIT"
    ),
    "jailbreakbench": PublishedSuite(
        jailbreakbench.load, "harmful behaviours and harmless twins", "github.com/JailbreakBench/jailbreakbench", "MIT"
    ),
    "harmbench": PublishedSuite(
        harmbench.load, "harmful behaviours in text", "github.com/centerforaisafety/HarmBench", "MIT"
    ),
    "advbench": PublishedSuite(
        prompt_lists.ADVBENCH, "harmful instructions", "github.com/llm-attacks/llm-attacks", "MIT"
    ),
    "malicious-instruct": PublishedSuite(
        prompt_lists.MALICIOUS_INSTRUCT, "harmful questions", "github.com/Princeton-SysML/Jailbreak_LLM", "not stated"
    ),
    "strongreject": PublishedSuite(
        prompt_lists.STRONGREJECT, "forbidden prompts", "github.com/alexandrasouly/strongreject", "MIT"
    ),
    "do-not-answer": PublishedSuite(
        prompt_lists.DO_NOT_ANSWER, "questions of risk", "github.com/Libr-AI/do-not-answer", "CC-BY-NC-SA-4.0"
    ),
    "mossbench": PublishedSuite(
        mossbench.load,
        "harmless questions about pictures, and contrasts",
        "github.com/xirui-li/MOSSBench",
        "CC-BY-SA-4.0, as a test set only",
    ),
    "figstep": PublishedSuite(figstep.load, "harmful lists drawn as pictures", "github.com/ThuCCSLab/FigStep", "MIT"),
    **{
        f"mm-safetybench/{form}": PublishedSuite(partial(mm_safetybench.load, form=form), about, _MM, _MM_LICENCE)
        for form, about in zip(
            mm_safetybench.FORMS,
            ("13 scenarios, in words", "... about a generated picture", "... as drawn words", "... as both"),
            strict=True,
        )
    },
    "harmbench-multimodal": PublishedSuite(
        harmbench.load_multimodal,
        "harmful behaviours about pictures",
        "github.com/centerforaisafety/HarmBench",
        "MIT; pictures belong to their owners",
    ),
    "msts": PublishedSuite(
        msts.load, "harmful only with the picture", "github.com/paul-rottger/msts-multimodal-safety", "CC-BY-4.0"
    ),
    "vlguard": PublishedSuite(
        vlguard.load, "safe and unsafe pictures with instructions", "github.com/ys-zong/VLGuard", "not stated"
    ),
    "holisafe": PublishedSuite(
        situations.load_holisafe,
        "safe and unsafe pictures and texts in all combinations",
        "hf.co/datasets/etri-vilab/holisafe-bench",
        "not stated",
    ),
    "mssbench": PublishedSuite(
        situations.load_mssbench,
        "one question about a safe and an unsafe situation",
        "github.com/eric-ai-lab/MSSBench",
        "not stated",
    ),
    "siuo": PublishedSuite(
        situations.load_siuo, "safe pictures and texts, unsafe together", "github.com/sinwang20/SIUO", "not stated"
    ),
    "vlsu": PublishedSuite(
        situations.load_vlsu,
        "pictures and texts graded together: safe, borderline, unsafe",
        "github.com/apple/ml-vlsu",
        "not stated",
    ),
    "vqav2": PublishedSuite(visual_questions.load_vqav2, "questions about COCO pictures", "visualqa.org", "CC-BY-4.0"),
    "gqa": PublishedSuite(
        visual_questions.load_gqa, "questions from scene graphs", "cs.stanford.edu/people/dorarad/gqa", "CC-BY-4.0"
    ),
    "textvqa": PublishedSuite(
        visual_questions.load_textvqa, "questions about words in pictures", "textvqa.org", "CC-BY-4.0"
    ),
    "pope": PublishedSuite(
        visual_questions.load_pope, "is this object in the picture?", "github.com/RUCAIBox/POPE", "MIT"
    ),
    "coco128-vqa": PublishedSuite(
        partial(visual_questions.load_rows, suite="coco128-vqa"),
        "presence and counts in COCO pictures",
        "derived from COCO train2017",
        "CC-BY-4.0; pictures each their own",
    ),
    "easy-vqa": PublishedSuite(
        partial(visual_questions.load_rows, suite="easy-vqa"), "coloured shapes", "github.com/vzhou842/easy-VQA", "MIT"
    ),
    "everyday": PublishedSuite(
        lambda _: everyday.load(),
        "our own prompts that sound alarming and are harmless",
        "shipped with Equipoise",
        "MIT",
    ),
    "contrast": PublishedSuite(
        lambda _: contrast.load(),
        "our own harmful prompts, harmless ones that look like them, and plain ones",
        "shipped with Equipoise",
        "MIT",
    ),
}
"""Every suite that has a name. Those of `SHIPPED` come with the package; of the others a user brings a copy."""
SHIPPED: Final = (everyday.SUITE, contrast.SUITE)
"""Suites that need no copy."""


def load_suite(
    spec: str, *, path: Path | None = None, root: Path | None = None, limit: int | None = None, seed: int = 0
) -> Suite:
    """The suite that a user means.

    Args:
        spec: a name of `SUITES`; `NAME=FOLDER`; `NAME=hub:ORG/DATASET[@REVISION]`, which is downloaded to the cache of
            huggingface_hub; or a file (CSV, TSV, JSONL, JSON, parquet) of the user's own, see `suites.generic`.
        path: the folder, where `spec` names none.
        root: a folder of suites, a sub-folder each, for specs that name no folder.
        limit: take this many samples, see `subset.choose_subset`.
        seed: of that choice.

    Raises:
        UsageError: an unknown name, no copy, a copy that is not of the published form, or no samples.
        MissingExtraError: a parquet file without pyarrow.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"expected a limit of at least 1, got {limit}; try 100")
    name, _, location = spec.partition("=")
    # A file of the user's own may have an equals sign in its name.
    is_file = is_table(Path(spec)) and (not location or (path_exists(Path(spec)) and not is_folder(Path(spec))))
    if is_file and name not in SUITES:
        bare = Path(spec).stem if Path(spec).suffix.lower() in PACKERS else spec
        return _suite(Path(bare).stem, generic.load(Path(spec)), str(spec), None, limit, seed)
    if name == "generic" and (location or path):
        folder, source = _find_copy(name, location, path, root)
        return _suite(folder.stem, generic.load(folder), source, None, limit, seed)
    if name not in SUITES:
        raise UsageError((spec and _not_a_table(Path(spec))) or _unknown(name))
    published = SUITES[name]
    if name in SHIPPED:
        return _suite(name, published.load(Path()), published.source, published, limit, seed)
    folder, source = _find_copy(name, location, path, root)
    return _suite(name, published.load(folder), source, published, limit, seed)


def _suite(
    name: str, samples: Sequence[Sample], source: str, published: PublishedSuite | None, limit: int | None, seed: int
) -> Suite:
    notes: list[str] = []
    chosen = list(samples)
    if limit is not None and limit < len(samples):
        chosen = choose_subset(samples, limit, seed=seed)
        notes.append(f"{limit} of {len(samples)} samples, chosen with seed {seed}")
    chosen = check_pictures(chosen)
    if published:
        chosen = [
            replace(sample, source=sample.source or published.source, licence=sample.licence or published.licence)
            for sample in chosen
        ]
    if not chosen:
        raise UsageError(f"expected samples in {source}, got none; try another copy")
    problems = [sample.problem for sample in chosen if sample.problem]
    if problems:
        notes.append(f"{len(problems)} of {len(chosen)} samples cannot be asked ({problems[0]})")
        notes += _packed_beside(Path(source), problems)
    return Suite(name, tuple(chosen), source, tuple(notes))


def _packed_beside(path: Path, problems: Sequence[str]) -> list[str]:
    """A note where pictures are missing and an archive that may hold them lies beside the table."""
    folder = path if is_folder(path) else path.parent
    if not is_folder(folder) or not any("is missing" in problem for problem in problems):
        return []
    archives = sorted(item.name for item in folder.iterdir() if item.suffix.lower() in (".zip", ".tar", ".tgz", ".7z"))
    return [f"{archives[0]} beside it may hold the pictures; try to unpack it"] if archives else []


def _find_copy(name: str, location: str, path: Path | None, root: Path | None) -> tuple[Path, str]:
    """The folder of a suite's copy, and what to call it in results."""
    if location.startswith("hub:"):
        return _download(location.removeprefix("hub:")), location
    if location or path is not None:
        folder = Path(location).expanduser() if location else Path(path or ".")
        return folder, str(folder)
    tried = [root / part for part in _folders(name)] if root is not None else []
    for folder in tried:
        if folder.is_dir():
            return folder, str(folder)
    searched = f"none of {', '.join(map(str, tried))}" if tried else "no folder"
    raise UsageError(
        f"expected a copy of {name} ({SUITES[name].source}), got {searched}; try {name}=FOLDER, "
        "or a folder of suites in EQUIPOISE_DATA"
    )


def _folders(name: str) -> list[str]:
    """Names that a folder of a suite may have, without repetition."""
    family = name.partition("/")[0]
    return list(dict.fromkeys([name, family, family.replace("-", "_"), family.replace("-", "")]))


def _download(dataset: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = dataset.partition("@")
    try:
        return Path(snapshot_download(repository, repo_type="dataset", revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise UsageError(
            f"expected a dataset hub:{dataset}, got '{reason}'; try its name, HF_TOKEN or a folder"
        ) from None


def _not_a_table(path: Path) -> str | None:
    """What is wrong with a path that is there; None where it names nothing."""
    if is_folder(path):
        return f"expected the name of a suite, got the folder {path}; try generic={path}, or NAME={path}"
    if path_exists(path):
        kinds = ", ".join(SUFFIXES)
        fix = "to unpack it" if path.suffix.lower() in (".zip", ".tar", ".tgz", ".7z") else "to save it as CSV or JSONL"
        return f"expected a table ({kinds}, also with {', '.join(PACKERS)}), got {path}; try {fix}"
    return None


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, SUITES, n=3, cutoff=0.5)
    close += [suite for suite in SUITES if suite.startswith(f"{name}/") and suite not in close]
    hint = f"try {' or '.join(close)}" if close else "try one of them, or a .jsonl or .csv file of your own"
    return f"expected a suite of {', '.join(SUITES)}, got {name!r}; {hint}"


def _fingerprint(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        values = sample_values(replace(sample, pictures=()))
        values["pictures"] = [picture.sha256 for picture in sample.pictures]
        digest.update(json.dumps(values, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
