"""From sealed records to a verdict, and from a verdict to a sentence. Knows nothing of how runs were made.

design       before the seal: can this design reach its alpha, and see an effect of the size it asks for?
statistics   tests and intervals on arrays, all of them scipy's and statsmodels'
verdict      seal and runs → Verdict
reasons      why a verdict is inadmissible or deviated, in English and Korean
wording      Verdict → a sentence for the study group, in English and Korean
"""

from claimbook.judge.design import Design, Finding, assess_design
from claimbook.judge.verdict import judge, judge_rerun, largest_difference
from claimbook.judge.wording import OUTCOME_NAMES, Language, beside, sentence

__all__ = [
    "OUTCOME_NAMES",
    "Design",
    "Finding",
    "Language",
    "assess_design",
    "beside",
    "judge",
    "judge_rerun",
    "largest_difference",
    "sentence",
]
