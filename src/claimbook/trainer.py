"""A callback by which transformers' Trainer logs to the current run. Knows the session, not the runner.

    from claimbook import start
    from claimbook.trainer import LogToRun
    run = start()
    Trainer(…, callbacks=[LogToRun(run)]).train()

Loads transformers when it is imported, as does whoever trains with it; Trainer itself needs `accelerate`.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import TrainerCallback

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from claimbook.session import Session


class LogToRun(TrainerCallback):  # type: ignore[misc]  # transformers has no types that mypy follows
    """Logs the numbers that Trainer logs (loss, learning_rate, grad_norm, eval_…) at its global step.

    Of several processes only the first of the world logs. A value that is no number is left out, and so is
    a gradient norm that is not finite: under fp16 the scaler skips such a step, and training goes on.

    Any other number that is not finite, a loss above all, ends the training with RunError, as `Session.log`
    does. Trainer would hide such a loss: by default it puts the mean of the earlier ones in its place, and
    drops it from the evaluation's. So this turns `TrainingArguments.logging_nan_inf_filter` off.
    See https://huggingface.co/docs/transformers/main_classes/callback.
    """

    def __init__(self, run: Session) -> None:
        self.run = run

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let losses be logged as they are, in an evaluation without training too."""
        args.logging_nan_inf_filter = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same for a callback that was added after the Trainer was made."""
        args.logging_nan_inf_filter = False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append the numbers of one log to the run. Raises RunError for one that is not finite."""
        numbers = {name: value for name, value in (logs or {}).items() if _belongs(name, value)}
        if numbers and state.is_world_process_zero:
            self.run.log(step=state.global_step, **numbers)


def _belongs(name: str, value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number and not (isinstance(value, Tensor) and value.numel() == 1):
        return False
    return name != "grad_norm" or math.isfinite(value)
