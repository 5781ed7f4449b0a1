"""Print the folder of the model that --model_name smollm2 stands for; prepare it if missing.

python scripts/prepare_smollm2.py
"""

import argparse

from kflow.ground.signals import end
from kflow.ground.smollm2 import prepare

if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False).parse_args()
    end(lambda: print(prepare()))
