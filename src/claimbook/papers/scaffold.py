"""The note that a paper begins with: front matter to fill in, and seven headings in the workspace's language.

Knows which fields a note may have, not where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence

from claimbook.papers.front_matter import flow_list, scalar
from claimbook.papers.titles import as_markdown
from claimbook.workspace import Language

HEADINGS: dict[Language, tuple[str, ...]] = {
    "en": (
        "The problem",
        "What is hard about it",
        "How it was tried before",
        "How similar problems were solved",
        "The method",
        "How one would verify it",
        "What it would change in our service",
    ),
    "ko": (
        "문제",
        "어려운 점",
        "기존 시도",
        "비슷한 문제의 해법",
        "방법",
        "검증 방법",
        "서비스 적용",
    ),
}
"""What a note answers, in the order in which research is done in a product company."""
REMARK: dict[Language, str] = {"en": "Remarks before reading", "ko": "읽기 전 메모"}
"""Where what came with an import goes."""

_NOTE = """\
---
id: {id}
status: {status}
tags: {tags}
# what it takes to test it on your products; remove the signs # to fill it in
# reproduction:
#   mode: features          # or scratch: a tiny model trained here; weights: pretrained ones only
#   weights: open_clip      # a package, or an id of the Hugging Face hub
#   cpu_minutes: 5          # one arm and seed on two cores
#   gpu_minutes: 1          # one arm and seed on one GPU, with real weights
#   gpu_memory: 8           # GiB
claims: []
# each sentence of the paper that can be tested; remove the [] above and the signs #
#   - id: small-batch
#     text: At small batch sizes the new loss trains a better model
#     metric: ImageNet zero-shot accuracy
#     direction: higher     # or lower
#     reported: 71.2        # the number, as the paper gives it
#     where: table 2, ImageNet validation
#     confirmed: false      # true once somebody has looked it up there
#     version: 1            # of the paper
#     scale:
#       parameters: 8.6e+7
#       pairs_seen: 9.0e+8
#       resolution: 224     # pixels
---

# {title}
"""


def note(
    number: str,
    title: str,
    language: Language,
    status: str = "queued",
    tags: Sequence[str] = (),
    remark: str = "",
) -> str:
    """The README.md of a paper that nobody has read yet.

    remark: what somebody wrote about it elsewhere, which becomes a last section.
    """
    begin = _NOTE.format(
        id=scalar(number, '"'), status=status, tags=flow_list(list(tags)), title=as_markdown(title)
    )
    sections = [f"## {heading}\n" for heading in HEADINGS[language]]
    if remark.strip():
        quoted = "\n".join(f"> {as_markdown(line)}".rstrip() for line in remark.strip().splitlines())
        sections.append(f"## {REMARK[language]}\n\n{quoted}\n")
    return "\n".join([begin, *sections])
