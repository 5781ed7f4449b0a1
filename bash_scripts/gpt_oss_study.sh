#!/usr/bin/env bash
# study_oss.py: the mistakes list and its rivals at 64 rollouts a problem, in one engine on all GPUs of
# this node, then compared; further flags are passed on to the study.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/gpt_oss_environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/study_environment.sh"
study study_oss.py "$@"
