"""Show runs: one HTML page with curves, a map of all rollouts, and each rollout's texts.

    python scripts/report.py RESULTS [RESULTS ...] [-o report.html]
    python scripts/report.py --watch RESULTS [RESULTS ...] [-o report.html]

RESULTS is a run's folder, a folder above several, or a glob; folders of the published code too.
The page is one file that needs no network. With --watch it follows runs in progress.
"""

from kflow.analysis.page.report import main

if __name__ == "__main__":
    main(__doc__)
