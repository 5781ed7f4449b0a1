"""Knowledge Flow: reasoning at test time beyond a model's context window."""

from .experiment import Experiment, run
from .settings import Settings
from .types import RunEnded, UserError

__all__ = ["Experiment", "RunEnded", "Settings", "UserError", "run"]
