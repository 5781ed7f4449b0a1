"""What inspect_ai reads from a log, as JSON. Run by an interpreter that has inspect_ai, with the
log's path; nothing of this project is imported."""

from __future__ import annotations

import json
import sys

from inspect_ai.log import (
    read_eval_log,
    read_eval_log_sample_summaries,
    read_eval_log_samples,
)


def main(path: str) -> None:
    read = {
        "whole": read_eval_log(path),
        "header": read_eval_log(path, header_only=True),
        "samples": list(read_eval_log_samples(path)),
        "summaries": read_eval_log_sample_summaries(path),
    }
    dumped = {
        name: [each.model_dump(mode="json") for each in value]
        if isinstance(value, list)
        else value.model_dump(mode="json")
        for name, value in read.items()
    }
    print(json.dumps(dumped))


if __name__ == "__main__":
    main(sys.argv[1])
