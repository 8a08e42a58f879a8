# shellcheck shell=bash
# Where everything is and how it is called. Sourced by every command here.
# shellcheck disable=SC2034 # used by those that source it
set -euo pipefail

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STATE=${PORTCULLIS_CLUSTER_DIR:-/var/lib/portcullis-e2e}
CACHE=${PORTCULLIS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/portcullis}
BIN=$CACHE/bin
KUBECONFIG_ADMIN=$STATE/admin.kubeconfig
LOCK=/run/lock/portcullis-e2e.lock

# One network for the machine (the control plane) and the nodes, one block of
# pods for each node, one of Services. None of it leaves the machine: a node has
# no default route.
BRIDGE=pc-e2e
NODE_NET=10.213.0.0/24
HOST_IP=10.213.0.1
POD_NET=10.213.64.0/18
SERVICE_NET=10.213.128.0/20
KUBERNETES_IP=10.213.128.1
DNS_IP=10.213.128.10
NODES=(node-1 node-2)
declare -A NODE_IP=([node-1]=10.213.0.11 [node-2]=10.213.0.12)
# A node's loopback address on the machine: 127.213.0.11:PORT is PORT of node-1,
# as a client outside the cluster sees it.
declare -A NODE_LOOPBACK=([node-1]=127.213.0.11 [node-2]=127.213.0.12)
declare -A NODE_PODS=([node-1]=10.213.65.0/24 [node-2]=10.213.66.0/24)

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a plain user's sudo may leave these out
API=https://$HOST_IP:6443
ETCD_CLIENT=http://127.0.0.1:23790
ETCD_PEER=http://127.0.0.1:23800
REGISTRY_PORT=5001
REGISTRY_AUTH_PORT=5002

say() { printf '%s %s\n' "$(printf '[%3ds]' "$SECONDS")" "$*" >&2; }

die() {
	printf 'e2e/cluster: %s\n' "$*" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "needs root (network namespaces, mounts, containers); run it with sudo -E"
}

# Commands that change the cluster run one at a time on a machine. The lock is on
# file descriptor 9: whatever stays behind must be started with 9>&-.
take_lock() {
	mkdir -p "$(dirname "$LOCK")"
	exec 9>"$LOCK"
	flock -n 9 && return
	say "another e2e/cluster command is running; waiting for it"
	flock 9
}

# wait_for SECONDS COMMAND... : until the command succeeds.
wait_for() {
	local limit=$(($(date +%s) + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$limit" ] || return 1
		sleep 0.1
	done
}

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }
