"""The version that run.json records, scripts print with --version and packaging reads."""

VERSION = "0.2.0"
TITLE = f"knowledge-flow {VERSION}"
