#!/bin/bash
# At the first start of a machine: the data volume, the programs, the release. Run again, it goes on where it stopped.
set -euo pipefail
source /etc/trellis/instance.env

data_volume() {
    local device="/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${VOLUME//-/}"
    # It is attached once the machine runs, or once the one before has let go of it.
    for _ in {1..120}; do
        [[ -e $device ]] && break
        sleep 5
    done
    [[ -e $device ]] || { echo "The data volume $VOLUME was not attached within 10 minutes." >&2; return 1; }
    # mkfs looks for itself as well, and refuses a volume that has something on it.
    blkid "$device" >/dev/null || mkfs.xfs -q "$device"
    mkdir -p /data
    grep -q ' /data ' /etc/fstab ||
        echo "$device /data xfs nofail,noatime,nodev,nosuid,x-systemd.device-timeout=10min 0 2" >>/etc/fstab
    systemctl daemon-reload
    mountpoint -q /data || mount /data
}

people() {
    id trellis &>/dev/null || useradd --system --uid 10001 --no-create-home --home-dir /data/trellis --shell /sbin/nologin trellis
    id caddy &>/dev/null || useradd --system --uid 10002 --no-create-home --home-dir /data/caddy --shell /sbin/nologin caddy
    install --directory --owner=trellis --group=trellis --mode=700 /data/trellis
    install --directory --owner=caddy --group=caddy --mode=700 /data/caddy
}

# program <name> <address> <SHA-256 of the archive>
program() {
    local archive
    archive=$(mktemp)
    curl --fail --silent --show-error --location --proto '=https' --retry 8 --retry-all-errors --output "$archive" "$2"
    echo "$3  $archive" | sha256sum --check --quiet
    tar --extract --gzip --file "$archive" --directory /usr/local/bin --no-same-owner "$1"
    rm "$archive"
}

release() {
    local source=/opt/trellis/source
    [[ -d $source/.git ]] || git clone --quiet --no-checkout -- "$REPOSITORY" "$source"
    git -C "$source" checkout --quiet --force "$RELEASE" --
    [[ -x /opt/trellis/uv/bin/uv ]] || python3.11 -m venv /opt/trellis/uv
    /opt/trellis/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement "$source/app/uv.txt"
    # As the image is built (app/Dockerfile): the locked versions, and nothing of the tests.
    (
        cd "$source"
        UV_PROJECT_ENVIRONMENT=/opt/trellis/venv UV_PYTHON=python3.11 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 \
            /opt/trellis/uv/bin/uv sync --quiet --locked --no-default-groups --group app --no-editable
    )
}

data_volume
people
# The embedder has no wheel for Linux on ARM: it is compiled.
dnf install --quiet --assumeyes git-core python3.11 python3.11-devel gcc gcc-c++
program litestream "$LITESTREAM_URL" "$LITESTREAM_SHA256"
program caddy "$CADDY_URL" "$CADDY_SHA256"
release
systemctl daemon-reload
systemctl enable --now trellis-settings.service trellis-restore.service litestream.service trellis.service caddy.service
