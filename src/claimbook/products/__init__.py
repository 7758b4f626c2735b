"""Product subsets: where they come from, which part is used, how it is split, what exactly is in it.

    load(name) ── spec ──┬── catalog ── drawing      products that claimbook draws itself
                         ├── folder                  a table beside a folder of pictures
                         ├── grocery                 the Grocery Store dataset as it is published
                         └── hub                     a dataset of the Hugging Face hub, or one saved to disk
                              │
                    rows → split → pictures → subset.Products

Knows nothing of models, techniques or runs.
"""

from __future__ import annotations

from claimbook.products.spec import load
from claimbook.products.subset import Products

__all__ = ["Products", "load"]
