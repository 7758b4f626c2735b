"""A process that has done its work says so: what it has loaded must not abort it as it ends."""

from __future__ import annotations

import subprocess
import sys

READ = """\
import sys
from pathlib import Path
from claimbook.experiments import Experiment
experiment = Experiment(Path(sys.argv[1]))
print(len([experiment.items(run) for run in experiment.runs()]), "pyarrow.dataset" in sys.modules)
"""


def test_a_process_that_reads_item_scores_starts_no_threads_that_could_abort_it(whole):
    """pyarrow's read_table does: about one process in five died of them (apache/arrow#34314)."""
    command = [sys.executable, "-c", READ, str(whole.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "36 False\n", "")
