"""The programs that `benchmarks/side_by_side.py` runs beside each other; the peers' run without heed."""
