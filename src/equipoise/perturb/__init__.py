"""The refusal perturbation over a folder of pictures: attack, save, read back, evaluate, record; resumable.

`run(pictures, config)` does from Python what `equipoise perturb` does on the command line.
"""

from __future__ import annotations

from equipoise.perturb.callbacks import PerturbCallbacks
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.questions import QuestionSets, choose_questions
from equipoise.perturb.record import PictureRecord
from equipoise.perturb.results_folder import ResultsFolder
from equipoise.perturb.runner import PerturbResults, run

__all__ = [
    "PerturbCallbacks",
    "PerturbConfig",
    "PerturbResults",
    "PictureRecord",
    "QuestionSets",
    "ResultsFolder",
    "choose_questions",
    "run",
]
