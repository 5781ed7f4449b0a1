"""Export runs as a data set, an inspect_ai log, session traces or a table.

    python scripts/export_results.py RESULTS [RESULTS ...] --to parquet|inspect|traces|csv

RESULTS is a run's folder, a folder above several, or a glob; folders of the published code too.
"""

from kflow.analysis.export.export import main

if __name__ == "__main__":
    main(__doc__)
