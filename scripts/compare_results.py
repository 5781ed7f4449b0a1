"""Compare runs: accuracy by step with intervals, costs, and each run against a baseline.

    python scripts/compare_results.py RESULTS [RESULTS ...]

RESULTS is a run's folder, a folder above several, or a glob; folders of the published code too.
"""

from kflow.analysis.compare import main

if __name__ == "__main__":
    main(__doc__)
