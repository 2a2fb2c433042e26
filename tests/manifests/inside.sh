#!/usr/bin/env bash
# What docs/operations.md says of a machine of one's own, done in the system that boot.sh starts; each finding is a line `name=value`.
exec 3>/trial-out/found >/trial-out/log 2>&1
set -x
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
bin=/opt/progress-stream/bin web=progress-stream worker=progress-stream-worker
say() { echo "$1=${*:2}" >&3; }
wait_for() { for _ in {1..240}; do eval "$1" && return; sleep 0.25; done; return 1; }

useradd --system --home-dir /var/lib/progress-stream --shell /usr/sbin/nologin progress-stream
mkdir -p /etc/progress-stream
echo PROGRESS_STREAM_REDIS_URL=redis://127.0.0.1:6379/0 | tee /etc/progress-stream/{settings,worker}.env
printf 'PROGRESS_STREAM_%s\n' JWT_SECRET=0123456789abcdef0123456789abcdef READY_SECONDS=1 DRAIN_SECONDS=2 \
    >>/etc/progress-stream/settings.env
chown -R root:progress-stream /etc/progress-stream && chmod 0640 /etc/progress-stream/*
systemd-run --quiet --unit=redis-trial "$(command -v redis-server valkey-server | head -1)" --port 6379 --save '' --dir /tmp
# A drop-in as `systemctl edit` makes it: where this interpreter's library and the demo's module lie.
for unit in $web $worker; do
    install -D /trial/$unit.service /run/systemd/system/$unit.service
    mkdir /run/systemd/system/$unit.service.d
    printf '[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/tree/src:/opt/tree\n' \
        >/run/systemd/system/$unit.service.d/here.conf
done
systemctl daemon-reload

systemctl start $web $worker && say started yes
main=$(systemctl show --property=MainPID --value $web)
say users "$(ps -o user:32= -p "$main,$(systemctl show --property=MainPID --value $worker)" | sort -u | tr -d ' ')"
# On a busy machine it is started before it is ready: after 20 seconds it waits no longer.
wait_for 'systemctl show --property=StatusText $web | grep serving'
say status "$(systemctl show --property=StatusText --value $web)"
for word in CapEff CapBnd NoNewPrivs Seccomp; do say $word "$(awk "/^$word:/ {print \$2}" /proc/$main/status)"; done
for place in /etc /usr /var/lib /root /home /opt/tree /var/lib/progress-stream; do
    nsenter --target "$main" --mount -- setpriv --reuid=progress-stream --regid=progress-stream --clear-groups \
        touch $place/written && say written $place
done

export LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/tree/src PROGRESS_STREAM_URL=http://127.0.0.1:8000
PROGRESS_STREAM_TOKEN=$(set -a && . /etc/progress-stream/settings.env && $bin/progress-stream token --sub me)
export PROGRESS_STREAM_TOKEN
say readyz "$(curl -s $PROGRESS_STREAM_URL/readyz)"
wait_for 'job=$($bin/progress-stream submit countdown --arg seconds=10)'
$bin/progress-stream watch "$job" --json >/trial-out/watched &
watching=$!
sleep 1
echo PROGRESS_STREAM_POLL_SECONDS=5 >>/etc/progress-stream/settings.env
systemctl reload $web && say reloaded yes
wait_for 'curl -s $PROGRESS_STREAM_URL/config.json | grep -q "\"poll_seconds\":5"' && say new_setting in force
wait $watching; say watched $?
# The reload is over when all of the old processes are gone.
wait_for '[ "$(pgrep --parent "$main" --full spawn_main | wc -l)" = 2 ]'
echo PROGRESS_STREAM_POLL_SECONDS=often >>/etc/progress-stream/settings.env
systemctl reload $web
wait_for 'systemctl show --property=StatusText $web | grep "not reloaded"' && say refused "$(systemctl is-active $web)"
kill -9 "$(pgrep --parent "$main" --full spawn_main | head -1)"
wait_for '[ "$(pgrep --parent "$main" --full spawn_main | wc -l)" = 2 ]' && say restarts "$(systemctl show --property=NRestarts --value $web)"

systemctl stop $web $worker && say stopped yes
say results "$(systemctl show --property=Result --value $web $worker | sort -u | tr -d '\n')"
journalctl --no-pager --unit=$web --unit=$worker
