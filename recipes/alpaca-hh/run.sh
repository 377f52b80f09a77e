#!/usr/bin/env bash
# The whole loop on local files: recipes/alpaca-hh/run.sh DATA_DIR BASE_MODEL [RUNS_DIR] [--setting value of PPO ...]
set -euo pipefail
here="$(dirname "$0")" data="$1" base="$2" runs="${3:-runs/alpaca-hh}"
shift $(( $# < 3 ? $# : 3 ))
at=(--set.data_dir "$data" --set.runs "$runs")

heed sft "$here/sft.yaml" "${at[@]}" --set.base_model "$base"
heed reward "$here/reward.yaml" "${at[@]}"
heed reward "$here/reward.yaml" "${at[@]}" --half second --output "$runs/judge"
heed evaluate-reward "$here/evaluate_reward.yaml" "${at[@]}"
heed ppo "$here/ppo.yaml" "${at[@]}" "$@"
heed evaluate "$here/evaluate.yaml" "${at[@]}" --set.base_model "$base"
heed evaluate "$here/evaluate.yaml" "${at[@]}" --set.base_model "$base" --best_of 0 \
  --prompts.path "$data/sft/alpaca.val.jsonl.gz" --output "$runs/references"
heed report "$runs"
