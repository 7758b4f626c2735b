"""What each file means: Paper, Hypothesis, Seal, Run, ItemScores, Verdict. Knows nothing of where files lie.

Texts and bytes come in, checked records go out; every complaint names file and line or field.
"""

from claimbook.records.experiment import Decision, Hypothesis, Questions, Seal, SealedSources, SealEntry
from claimbook.records.ledger import Ledger, LedgerLine, Register, SealLine
from claimbook.records.paper import Claim, Link, Paper, PaperMeta, PaperNote, Reproduction, Scale
from claimbook.records.rerun import Rerun
from claimbook.records.run import ColdCheck, Failure, Finish, ItemScores, Process, Run, Step, read_steps
from claimbook.records.schema import decode_json, encode_json
from claimbook.records.verdict import ControlCheck, Reported, SeedDifference, Verdict

__all__ = [
    "Claim",
    "ColdCheck",
    "ControlCheck",
    "Decision",
    "Failure",
    "Finish",
    "Hypothesis",
    "ItemScores",
    "Ledger",
    "LedgerLine",
    "Link",
    "Paper",
    "PaperMeta",
    "PaperNote",
    "Process",
    "Questions",
    "Register",
    "Reported",
    "Reproduction",
    "Rerun",
    "Run",
    "Scale",
    "Seal",
    "SealEntry",
    "SealLine",
    "SealedSources",
    "SeedDifference",
    "Step",
    "Verdict",
    "decode_json",
    "encode_json",
    "read_steps",
]
