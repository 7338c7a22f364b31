"""What inspect finds through the entry point `inspect_ai`: our model provider, solver, scorers and tasks."""

from equipoise.audit.engine.inspect_solver import reply_solver
from equipoise.audit.engine.provider import equipoise
from equipoise.audit.engine.scorers import harm, harmful_answer, needless_refusal, refusal
from equipoise.audit.engine.tasks import TASKS, drawn_scenes, embedded, generic

__all__ = [
    "TASKS",
    "drawn_scenes",
    "embedded",
    "equipoise",
    "generic",
    "harm",
    "harmful_answer",
    "needless_refusal",
    "refusal",
    "reply_solver",
]
