"""One file per technique, named after its paper's slug: formula, shapes, source. No house imports."""
