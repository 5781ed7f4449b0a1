"""Agreement on AIME 2025: a method and a family that are not part of the package.

    python docs/examples/vllm_agreement.py

Results: results/agreement_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

import thinking
from agreement import Agreement
from kflow.experiment import Experiment, main

EXPERIMENT = Experiment(
    description=__doc__,
    family=thinking.FAMILY,
    method=Agreement(),
    dataset="yentinglin/aime_2025",
    prefix="agreement",
    reflex_size=32,
)

if __name__ == "__main__":
    main(EXPERIMENT)
