#!/bin/bash
# Submit the workers of a study, unless some are still queued or at work: for cron and scrontab.
# Its arguments are those of `onecycle submit`. A study that has ended is left alone.
set -euo pipefail

job=$(onecycle submit "$@" --dry-run | sed -n 's/^#SBATCH --job-name=//p')
if [[ -n $(squeue --me --noheader --name="$job") ]]; then
    echo "$job: workers are still queued or at work"
    exit 0
fi
exec onecycle submit "$@"
