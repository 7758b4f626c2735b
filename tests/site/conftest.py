"""A small workspace with everything that a page can meet, made through the records."""

import base64
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from PIL import Image, ImageDraw

from claimbook.experiments import Experiment, Metrics, this_process
from claimbook.records import (
    ControlCheck,
    Failure,
    Hypothesis,
    Reported,
    Run,
    Scale,
    SealedSources,
    SealEntry,
    SeedDifference,
    Step,
    Verdict,
)
from claimbook.records.experiment import read_hypothesis
from claimbook.workspace import Language, Workspace, write_json

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)> \u202eevil'
SCORES = {0: (0.412, 0.447), 1: (0.405, 0.431), 2: (0.420, 0.452), 3: (0.398, 0.436), 4: (0.411, 0.440)}

HYPOTHESIS = """
title = {title}
paper = "siglip"
claim = "small-batch"
notebook = "siglip"
metric = "recall@1"
margin = 0.01
seeds = [0, 1, 2, 3, 4]

[questions]
problem = "배치가 작으면 softmax 손실의 성능이 떨어진다."
difficulty = "Our GPUs hold 64 pairs at once."
tried = "Gradient accumulation, which does not add negatives."
similar = "Memory banks in self-supervised learning."
method = "시그모이드 손실은 쌍마다 독립이라 배치 크기의 영향이 작다."
verification = "Recall at 1 on products that training has not seen."
service = "Cheaper retraining of the product search every night."

[parameters]
products = "catalog"
epochs = 6

[arms.baseline]
loss = "softmax"
[arms.treatment]
loss = "sigmoid"
bias = -10.0

[controls.shuffled]
shuffle_pairs = true
"""

NOTE = r"""---
id: "2303.15343"
read_version: 4
status: read
week: "2026-W45"
tags: [loss, batch]
claims:
  - id: small-batch
    text: The sigmoid loss is significantly better than the softmax loss below a batch of 16k.
    metric: recall@1
    reported: 73.4
    where: Figure 2, WebLI, ImageNet zero-shot
    confirmed: true
    scale: {parameters: 86.0e+6, pairs_seen: 9.0e+9, resolution: 224}
  - id: bias
    text: 편향을 −10으로 초기화하면 학습 초기가 안정적이다.
    metric: loss
    direction: lower
    reported: the curve without bias diverges
---
# 읽기 노트

## 문제

소프트맥스 손실은 배치 전체에서 정규화한다. 쌍 $(x_i, y_j)$의 손실은 다음과 같다.

$$
\mathcal{L} = -\frac{1}{|\mathcal{B}|}
\sum_{i}\sum_{j} \log \frac{1}{1 + e^{z_{ij}(-t\,\mathbf{x}_i\cdot\mathbf{y}_j + b)}}
$$

\begin{align}
z_{ij} &= 1 \quad \text{if } i = j \\
z_{ij} &= -1 \quad \text{otherwise}
\end{align}

| 배치 | softmax | sigmoid |
|-----:|--------:|:-------:|
| 512  | 1,234.5 | 67.8    |

```python
def loss(x, y, t, b):
    return -log_sigmoid(z * (t * x @ y.T + b)).sum()  # 쌍마다 독립
```

![배치 크기별 정확도](figure.png)
[harmless](https://example.org/a?b=c) [the experiment](../../experiments/judged/README.md)
[bad](javascript:alert(1)) <a href="JaVaScRiPt:alert(1)" onclick="alert(1)">worse</a>
<img src="https://tracker.example/x.png" onerror="alert(1)"> <script>alert(1)</script>
<iframe src="https://example.org"></iframe><form action="https://example.org"><input></form>

It costs $5 or $6. Nobody knows $\nosuchcommand{x}$.
"""

DECISION = """---
decision: adopt
tags: [loss]
---
# What we learned

The gain holds on **our** products; see [the note](../../papers/siglip/README.md).

### Next

밤마다 돌리는 재학습에 적용한다.
"""

META = {
    "id": "2303.15343",
    "title": "Sigmoid Loss for Language Image Pre-Training",
    "authors": ["Xiaohua Zhai", "Basil Mustafa", "Alexander Kolesnikov", "Lucas Beyer"],
    "abstract": "We propose a simple pairwise Sigmoid loss for Language-Image Pre-training (SigLIP).",
    "categories": ["cs.CV", "cs.AI"],
    "published": "2023-03-27",
    "updated": "2023-09-27",
    "versions": [1, 2, 3, 4],
    "source": "arxiv",
    "fetched_at": "2026-11-01T03:00:00Z",
}

SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
 viewBox="0 0 120 40" onload="alert(1)"><script>alert(1)</script><style>@import url(https://example.org/x.css);</style>
<foreignObject><body xmlns="http://www.w3.org/1999/xhtml" onload="alert(1)"/></foreignObject>
<a xlink:href="javascript:alert(1)"><rect width="10" height="10"/></a>
<rect x="4" y="4" width="112" height="32" fill="#2a6f97" onclick="alert(1)"/>
<image href="https://tracker.example/x.png" width="1" height="1"/></svg>"""

TABLE = """<style scoped>.dataframe {{color: red}}</style>
<table border="1" class="dataframe" onclick="alert(1)">
<thead><tr style="text-align: right;"><th></th>{head}</tr></thead>
<tbody><tr><th>0</th>{row}</tr><tr><th>1</th>{row}</tr></tbody></table>"""


def picture(width: int = 640, height: int = 360) -> bytes:
    """A real PNG with bars on it."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for number in range(8):
        left = 30 + number * (width - 60) // 8
        pen.rectangle([left, height - 40 - 30 * number, left + 40, height - 40], fill="#2a6f97")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def code_cell(source: str, *outputs: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": metadata,
        "source": source.splitlines(keepends=True),
        "outputs": list(outputs),
    }


def display(data: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text.splitlines(keepends=True)}


def markdown_cell(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def executed_notebook() -> dict[str, Any]:
    """A notebook with a figure, a wide table, formulas, a progress bar, and everything hostile."""
    png = base64.encodebytes(picture()).decode()
    table = TABLE.format(
        head="".join(f"<th>column {n}</th>" for n in range(14)),
        row="".join(f"<td>{n * 1.5:.3f}</td>" for n in range(14)),
    )
    return notebook(
        markdown_cell("# SigLIP\n\n작은 배치에서 $\\sigma(z) = \\frac{1}{1 + e^{-z}}$를 쓴다.\n\n### 데이터"),
        code_cell('loss: str = "sigmoid"  # 손실\nseed: int = 0', tags=["parameters"]),
        code_cell(
            "for step in tqdm(range(300)):\n    train(step)  # " + "a very long comment " * 12,
            stream("\r  0%|  | 0/300\r 50%|##| 150/300", "stderr"),
            stream("\r100%|####| 300/300\n\x1b[31mdone\x1b[0m\n", "stderr"),
        ),
        code_cell("frame.head(2)", display({"text/html": [table], "text/plain": "…"})),
        code_cell(
            "run.figure(fig, alt=…)",
            display(
                {"image/png": png, "text/plain": "x"}, **{"image/png": {"alt": "시드별 recall@1 막대그래프"}}
            ),
        ),
        code_cell("plt.show()", display({"image/png": png, "text/plain": "<Figure>"})),
        code_cell("SVG(drawing)", display({"image/svg+xml": SVG}, alt="A blue rectangle")),
        code_cell("Latex(r'$e = mc^2$')", display({"text/latex": "$e = mc^2$"})),
        code_cell(
            "HTML('<script>…')",
            display({"text/html": "<script>alert(1)</script>", "text/plain": "<script>plain</script>"}),
            display({"text/html": f"<p onmouseover='alert(1)'>{HOSTILE}</p><svg onload=alert(1)></svg>"}),
            display({"application/javascript": "alert(1)", "text/plain": "<Javascript>"}),
        ),
        markdown_cell('<img src="x" onerror="alert(1)"><details><summary>more</summary>text</details>'),
        code_cell(
            "1 / 0",
            {
                "output_type": "error",
                "ename": "ZeroDivisionError",
                "evalue": "division by zero",
                "traceback": ["\x1b[0;31mZeroDivisionError\x1b[0m: <b>division</b> by zero"],
            },
        ),
    )


def hypothesis(title: str) -> str:
    return HYPOTHESIS.format(title=json.dumps(title))


NO_SOURCES = SealedSources(notebook=[], code={})


def seal_of(
    text: str,
    *,
    reason: str | None = None,
    previous: SealEntry | None = None,
    changes: str | None = None,
) -> SealEntry:
    state: dict[str, Any] = {
        "hypothesis": read_hypothesis(text, "hypothesis.toml"),
        "notebook": "9" * 64,
        "code": {"claimbook/vlm/losses.py": "a" * 64, "claimbook/vlm/metrics.py": "b" * 64},
        "data": "c" * 64,
    }
    entry = SealEntry(
        hash="",
        sealed_at="2026-11-02T05:00:00Z" if reason is None else "2026-11-03T05:00:00Z",
        data_description="catalog: 1,920 pictures of 480 products",
        git="0123456789abcdef0123456789abcdef01234567",
        reason=reason,
        previous=previous.hash if previous else None,
        changes=changes,
        **state,
    )
    return msgspec.structs.replace(entry, hash=entry.digest)


def run_of(slug: str, arm: str, seed: int, seal: str, **changes: Any) -> Run:
    baseline, treatment = SCORES[seed]
    fields: dict[str, Any] = {
        "id": f"{arm}-{seed}",
        "experiment": slug,
        "arm": arm,
        "seed": seed,
        "kind": "confirmatory",
        "why_exploratory": [],
        "seal": seal,
        "notebook": "siglip",
        "parameters": {"loss": "sigmoid"},
        "fingerprints": {},
        "environment": {"python": "3.11.9", "torch": "2.6.0", "gpu": "none"},
        "git": {"commit": None, "diff": None},
        "status": "finished",
        "started": f"2026-11-04T0{seed}:00:00Z",
        "process": this_process(),
        "ended": f"2026-11-04T0{seed}:02:10Z",
        "seconds": 130.4,
        "peak_memory": 1_395_864_371,
        "metrics": {"recall@1": {"baseline": baseline, "treatment": treatment}.get(arm, 0.002)},
        "chance": {"recall@1": 0.002},
    }
    return Run(**{**fields, **changes})


def verdict_of(slug: str, seal: SealEntry, **changes: Any) -> Verdict:
    design: Hypothesis = seal.hypothesis
    pairs = [
        SeedDifference(
            seed=seed,
            baseline=low,
            treatment=high,
            difference=high - low,
            runs=[f"baseline-{seed}", f"treatment-{seed}"],
        )
        for seed, (low, high) in SCORES.items()
    ]
    fields: dict[str, Any] = {
        "experiment": slug,
        "outcome": "supported",
        "reasons": [],
        "seal": seal.hash,
        "kind": design.kind,
        "scope": design.scope,
        "metric": design.metric,
        "direction": design.direction,
        "margin": design.margin,
        "alpha": design.alpha,
        "effect": sum(pair.difference for pair in pairs) / len(pairs),
        "interval": [0.0255, 0.0385],
        "p": 0.03125,
        "p_adjusted": 0.03125,
        "family": {slug: 0.03125},
        "smallest_p": 0.03125,
        "equivalent": False,
        "units": len(pairs),
        "means": {"baseline": 0.4092, "treatment": 0.4412, "shuffled": 0.002},
        "pairs": pairs,
        "controls": [
            ControlCheck(
                name="shuffled",
                mean=0.0021,
                chance=0.002,
                interval=[-0.0008, 0.001],
                tolerance=0.005,
                passed=True,
            )
        ],
        "replication": None,
        "data": seal.data,
        "data_description": seal.data_description,
        "our_scale": Scale(parameters=3.2e6, pairs_seen=11_520, resolution=64),
        "paper_scale": Scale(parameters=86e6, pairs_seen=9e9, resolution=224),
        "ordinal": 2,
        "attempts": {"treatment s0": ["failed", "finished"]},
        "reported": Reported(value=0.731, metric="recall@1", where="Table 2", confirmed=False),
    }
    return Verdict(**{**fields, **changes})


def write_hypothesis(workspace: Workspace, slug: str, text: str) -> Experiment:
    folder = workspace.experiments / slug
    folder.mkdir(parents=True)
    (folder / "hypothesis.toml").write_text(text, "utf-8")
    return Experiment(folder)


def put_judged(
    workspace: Workspace, slug: str = "judged", title: str = "Sigmoid beats softmax", **changes: Any
) -> None:
    """An experiment with runs, curves, an executed notebook, a verdict and a decision."""
    text = hypothesis(title)
    experiment = write_hypothesis(workspace, slug, text)
    first, second = (
        first := seal_of(text.replace("epochs = 6", "epochs = 5")),
        seal_of(
            text,
            reason="5 epochs were too few",
            previous=first,
            changes=f"-epochs = 5\n+epochs = 6 {HOSTILE}",
        ),
    )
    for entry in (first, second):
        experiment.add_seal(entry, NO_SOURCES)
    for arm in ("baseline", "treatment", "shuffled"):
        for seed in SCORES:
            other = (
                {"environment": {"python": "3.11.9", "torch": "2.7.1", "gpu": "none"}} if seed == 4 else {}
            )
            experiment.save_run(run_of(slug, arm, seed, second.hash, **other))
            metrics = Metrics(experiment, f"{arm}-{seed}")
            for step in range(0, 300, 20):
                height = {"baseline": 2.0, "treatment": 1.7}.get(arm, 4.0)
                values = {"loss": height / (1 + step / 60) + 0.05 * seed}
                metrics.append(Step(step=step, values=values, at=step / 3))
    failure = Failure(error="MemoryError", message=f"no room {HOSTILE}", cell=5)
    failed = run_of(
        slug, "treatment", 0, second.hash, id="failed", status="failed", failure=failure, metrics={}
    )
    experiment.save_run(failed)
    write_json(experiment.notebook_path("treatment-0"), executed_notebook())
    experiment.save_verdict(verdict_of(slug, second, **changes))
    (experiment.folder / "README.md").write_text(DECISION, "utf-8")


def put_sealed(workspace: Workspace, slug: str = "sealed", title: str = "봉인만 된 실험") -> None:
    text = hypothesis(title)
    write_hypothesis(workspace, slug, text).add_seal(seal_of(text), NO_SOURCES)


def put_broken(workspace: Workspace, slug: str = "broken") -> None:
    """Judged once, then somebody edited the seal."""
    put_judged(workspace, slug, title="An edited seal")
    seal = workspace.experiments / slug / "seal.json"
    seal.write_text(seal.read_text().replace("0.01", "0.001"))


def put_paper(workspace: Workspace, slug: str = "siglip", note: str = NOTE, **meta: Any) -> None:
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    write_json(folder / "meta.json", {**META, **meta})
    (folder / "README.md").write_text(note, "utf-8")
    (folder / "figure.png").write_bytes(picture(480, 300))


def fill(root: Path, language: Language) -> Workspace:
    """The workspace that most tests look at."""
    workspace = Workspace(root, language=language, timezone="Asia/Seoul")
    put_paper(workspace)
    put_paper(workspace, "hostile", '---\nid: "1"\n---\n', id="1", title=HOSTILE, source="manual")
    put_judged(workspace)
    put_sealed(workspace)
    put_broken(workspace)
    write_hypothesis(workspace, "hostile", hypothesis(HOSTILE))
    return workspace


@pytest.fixture
def make() -> ModuleType:
    """This module: tests cannot import it by name."""
    return sys.modules[__name__]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, timezone="Asia/Seoul")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The filled workspace in English, built once; tests only read it."""
    return _built(tmp_path_factory.mktemp("full"), "en")


@pytest.fixture(scope="session")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same in Korean."""
    return _built(tmp_path_factory.mktemp("korean"), "ko")


def _built(root: Path, language: Language) -> Workspace:
    from claimbook.site import build

    workspace = fill(root, language)
    build(workspace)
    return workspace
