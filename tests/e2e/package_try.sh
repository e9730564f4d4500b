#!/bin/sh
# Install the package, run a job as the service would, and remove the package. Only in a throw-away system.
set -eu
test -e /tmp/throw-away || exit 99
set -x
PATH=/usr/sbin:/usr/bin:/sbin:/bin

as_soniq() {
    setpriv --reuid=soniq --regid=soniq --init-groups "$@"
}

dpkg -i /tmp/soniqd.deb
test "$(stat -c '%U:%G %a' /etc/soniq.toml)" = 'root:soniq 640'

# What systemd makes for the service, and an application.
install -d -o soniq -g soniq /var/lib/soniq /run/soniq /srv/app
cat > /srv/app/jobs.py <<JOBS
from soniqd import Soniq

app = Soniq()


@app.job(name="hello")
def hello():
    open("/var/lib/soniq/done", "w").close()
JOBS
cat > /etc/soniq.toml <<TOML
[database]
url = "sqlite:////var/lib/soniq/jobs.db"

[jobs]
modules = ["jobs"]
path = ["/srv/app"]
TOML

as_soniq soniqd -t
as_soniq soniqctl setup
as_soniq soniqctl enqueue hello
as_soniq soniqd &
master=$!
for _ in $(seq 200); do
    test -e /var/lib/soniq/done && break
    sleep 0.1
done
test -e /var/lib/soniq/done
as_soniq soniqctl status
as_soniq soniqctl stop
wait $master

dpkg -r soniqd
test ! -e /usr/lib/soniqd
test -e /etc/soniq.toml
dpkg -P soniqd
test ! -e /etc/soniq.toml
test -e /var/lib/soniq/jobs.db
echo 'everything worked'
