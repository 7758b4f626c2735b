"""transformers' Trainer on a CPU, for a few steps, and what it leaves in the log."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Trainer, TrainingArguments

from claimbook import session
from claimbook.errors import RunError
from claimbook.session import start
from claimbook.trainer import LogToRun

ITEMS = {"item": ["a"], "cluster": ["p"], "hit@1": [1.0]}


class Line(torch.nn.Module):
    """y = w·x, its loss the squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.w * x
        return {"loss": ((found - labels) ** 2).mean(), "logits": found}


@pytest.fixture
def run(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    monkeypatch.setattr(session, "_unfinished", None)
    return start()


@pytest.fixture
def trainer(run, tmp_path):
    """Four steps over y = 2x by plain gradient descent, a log and an evaluation every second step."""

    def build(callback: bool = True, **changes) -> Trainer:
        points = [{"x": torch.tensor(1.0), "labels": torch.tensor(2.0)} for _ in range(4)]
        settings = {
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 1,
            "num_train_epochs": 1,
            "learning_rate": 0.1,
            "optim": "sgd",
            "lr_scheduler_type": "constant",
            "max_grad_norm": 1e9,
            "logging_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return Trainer(
            model=Line(),
            args=TrainingArguments(**{**settings, **changes}),
            train_dataset=points,
            eval_dataset=points,
            callbacks=[LogToRun(run)] if callback else [],
        )

    return build


def logged(run, name: str) -> dict[int, float]:
    """The values of a metric by step, read back from metrics.jsonl."""
    steps, _ = run._experiment.steps(run.run.id)
    return {step.step: step.values[name] for step in steps if name in step.values}


def test_what_trainer_logs_stands_in_the_log_at_its_step(run, trainer):
    """By hand: the gradient is 2(w−2), so w−2 = −2·0.8ⁿ and the loss before step n+1 is 4·0.64ⁿ."""
    trainer().train()
    assert logged(run, "loss") == pytest.approx({2: 2 * (1 + 0.64), 4: 2 * (0.64**2 + 0.64**3)}, abs=1e-4)
    assert logged(run, "eval_loss") == pytest.approx({2: 4 * 0.64**2, 4: 4 * 0.64**4}, abs=1e-4)
    assert logged(run, "grad_norm") == pytest.approx({2: 4 * 0.8, 4: 4 * 0.8**3}, abs=1e-4)
    assert logged(run, "learning_rate") == {2: 0.1, 4: 0.1}
    assert logged(run, "train_loss") == pytest.approx({4: (1 + 0.64 + 0.64**2 + 0.64**3)}, abs=1e-4)
    run.finish(metrics={"hit@1": 1.0}, items=ITEMS)
    assert run._experiment.runs()[0].status == "finished"


@pytest.mark.parametrize("added_later", [False, True])
def test_a_diverged_training_stops_instead_of_looking_finite(run, trainer, added_later):
    """At a rate of 1e30 the weights overflow. Trainer alone would log the mean of what was before."""
    diverging = trainer(callback=not added_later, learning_rate=1e30, eval_strategy="no", logging_steps=1)
    if added_later:
        diverging.add_callback(LogToRun(run))
    with pytest.raises(RunError, match=r"loss at step \d is (inf|nan)"):
        diverging.train()
    assert all(math.isfinite(loss) for loss in logged(run, "loss").values())


def test_an_evaluation_that_diverged_stops_too(run, trainer):
    broken = trainer()
    broken.eval_dataset = [*broken.eval_dataset, {"x": torch.tensor(1.0), "labels": torch.tensor(math.nan)}]
    with pytest.raises(RunError, match=r"eval_loss at step 0 is nan"):
        broken.evaluate()


def test_what_is_no_number_is_left_out(run, trainer):
    """A tensor of one number is one; a gradient norm may overflow where fp16 skips the step."""
    idle = trainer()
    idle.state.epoch = None  # it would be logged too
    idle.log(
        {"note": "warm", "flag": True, "table": [1, 2], "area": torch.tensor(0.5), "grad_norm": math.inf}
    )
    idle.log({"note": "warm"})
    steps, _ = run._experiment.steps(run.run.id)
    assert [step.values for step in steps] == [{"area": 0.5}]


def test_only_the_first_process_of_the_world_logs(run, trainer):
    second = trainer()
    second.state.is_world_process_zero = False
    second.log({"loss": 1.0})
    assert run._experiment.steps(run.run.id)[0] == []
