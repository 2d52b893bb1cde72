"""The checks of `diagnose`, a family of findings a file; each takes an `Examination`."""
