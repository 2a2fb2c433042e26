#!/usr/bin/env bash
# A systemd of its own over a copy of this machine that is thrown away: nothing of what it does reaches the machine, nor its network.
#   boot.sh FOLDER PYTHON VENV ROOT
# FOLDER has the units, inside.sh and what the system has in /opt/progress-stream/bin; FOLDER/out gets what was found. PYTHON is where the
# interpreter's home is, for units see no home folder. For root, in a mount namespace: `unshare --mount bash boot.sh …`.
set -euo pipefail
folder=$1 python=$2 venv=$3 tree=$4
mkdir -p "$folder/memory" "$folder/root" "$folder/out"
mount -t tmpfs none "$folder/memory"
mkdir "$folder/memory/upper" "$folder/memory/work"
mount -t overlay none -o "lowerdir=/,upperdir=$folder/memory/upper,workdir=$folder/memory/work" "$folder/root"
mkdir -p "$folder/root/opt/python" "$folder/root/opt/progress-stream" "$folder/root/opt/tree"
exec systemd-nspawn --quiet --directory="$folder/root" --register=no --keep-unit --private-network \
    --bind-ro="$folder/units:/trial" --bind="$folder/out:/trial-out" \
    --bind-ro="$folder/units/trial.service:/etc/systemd/system/trial.service" \
    --bind-ro="$python:/opt/python" --bind-ro="$venv:/opt/progress-stream" --bind-ro="$tree:/opt/tree" \
    --bind-ro="$folder/bin:/opt/progress-stream/bin" --bind-ro="$folder/pyvenv.cfg:/opt/progress-stream/pyvenv.cfg" \
    --boot -- --unit=trial.service
