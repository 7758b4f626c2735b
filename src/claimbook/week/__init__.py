"""The week: which paper is read, what is missing for it to count, the streak, and which paper comes next.

calendar     which week a moment lies in
note         what a reading note lacks
progress     the checklist of one paper
habit        the state of every week, the streak, what can be caught up
machine      what there is here to reproduce a paper with
proposal     the next paper from the queue, and why

Everything is computed from the files; nothing here writes.
"""

from claimbook.week.calendar import Calendar, Week, weeks_of
from claimbook.week.habit import SIGNS, Habit, Standing, State, read
from claimbook.week.progress import Item, Progress
from claimbook.week.proposal import Proposal, Reason, propose

__all__ = [
    "SIGNS",
    "Calendar",
    "Habit",
    "Item",
    "Progress",
    "Proposal",
    "Reason",
    "Standing",
    "State",
    "Week",
    "propose",
    "read",
    "weeks_of",
]
