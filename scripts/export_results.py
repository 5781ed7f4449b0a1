"""Export runs as a data set, inspect_ai logs or session traces, or to an experiment tracker.

    python scripts/export_results.py RESULTS [RESULTS ...] --to parquet|inspect|traces|trackio|wandb

RESULTS is a run's folder, a folder above several, or a glob; folders of the published code too.
"""

from kflow.analysis.export.export import main

if __name__ == "__main__":
    main(__doc__)
