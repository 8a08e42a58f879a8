# shellcheck shell=bash
# A node: namespaces around a containerd, a kubelet and a kube-proxy, a cgroup of
# its own, and a folder that is its disk (/var inside).

CGROUP=portcullis-e2e

node_disk() { echo "$STATE/$1/var"; }

# node_init NODE : the process id, seen from here, of the node's first process.
node_init() {
	local pid
	for pid in $(pids_of "$1"); do
		if [ "$(awk '/^NSpid:/ {print NF == 3 && $3 == 1}' "/proc/$pid/status" 2>/dev/null)" = 1 ]; then
			echo "$pid"
			return
		fi
	done
	return 1
}

# in_node NODE COMMAND... : inside its namespaces.
in_node() {
	local init
	init=$(node_init "$1") || die "$1 is not running; start it: e2e/cluster/node start $1"
	shift
	nsenter -t "$init" -m -u -i -n -p -- "$@"
}

# The kubelet wants its root cgroup made, in every hierarchy there is.
make_cgroup() {
	local node=$1 root dir from
	if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
		mkdir -p "/sys/fs/cgroup/$CGROUP/$node"
		for dir in /sys/fs/cgroup "/sys/fs/cgroup/$CGROUP"; do
			sed 's/\([a-z_]\+\)/+\1/g' "$dir/cgroup.controllers" >"$dir/cgroup.subtree_control"
		done
		return
	fi
	for root in /sys/fs/cgroup/*/; do
		[ -f "$root/cgroup.procs" ] || continue
		mkdir -p "$root$CGROUP/$node"
		[ -f "$root/cpuset.cpus" ] || continue
		from=$root
		for dir in "$root$CGROUP" "$root$CGROUP/$node"; do
			cat "$from/cpuset.cpus" >"$dir/cpuset.cpus"
			cat "$from/cpuset.mems" >"$dir/cpuset.mems"
			from=$dir
		done
	done
}

# Every cgroup folder of NODE, in each hierarchy.
cgroups_of() {
	find /sys/fs/cgroup -maxdepth 3 -type d -path "*/$CGROUP/$1" 2>/dev/null || true
}

remove_cgroup() {
	local top
	for top in $(cgroups_of "$1"); do
		find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || true
		rmdir "$(dirname "$top")" 2>/dev/null || true
	done
}

# Processes of pods, should the node's first process be gone but not they.
kill_cgroup() {
	local top pid
	for top in $(cgroups_of "$1"); do
		while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done \
			< <(find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
	done
}

write_node_configuration() {
	local node=$1 disk
	disk=$(node_disk "$node")
	mkdir -p "$disk"/{log/pods,log/containers,tmp,lib/containerd,lib/kubelet/plugins,lib/kube-proxy,lib/cni/net.d}
	ln -sfn /run "$disk/run"

	cat >"$disk/lib/containerd/config.toml" <<-TOML
		version = 2
		disabled_plugins = [
		  "io.containerd.internal.v1.opt",
		  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
		  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
		]
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "docker.io/portcullis-e2e/pause:1"
		  # Without CAP_SYS_RESOURCE runc may not lower the score: "can't get final child's PID".
		  restrict_oom_score_adj = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		    conf_dir = "/var/lib/cni/net.d"
		  [plugins."io.containerd.grpc.v1.cri".registry]
		    config_path = "/var/lib/containerd/certs.d"
	TOML
	registry_hosts "$disk/lib/containerd/certs.d"

	# ptp and not bridge: every packet is routed, so answers of a Service's pod on
	# the same node pass kube-proxy's translation also without br_netfilter.
	cat >"$disk/lib/cni/net.d/10-pods.conflist" <<-JSON
		{
		  "cniVersion": "0.4.0",
		  "name": "pods",
		  "plugins": [{
		    "type": "ptp",
		    "ipMasq": false,
		    "ipam": {
		      "type": "host-local",
		      "ranges": [[{"subnet": "${NODE_PODS[$node]}"}]],
		      "routes": [{"dst": "0.0.0.0/0"}]
		    }
		  }]
		}
	JSON

	install -m 600 "$PKI/$node.key" "$disk/lib/kubelet/kubelet.key"
	install -m 644 "$PKI/$node.crt" "$disk/lib/kubelet/kubelet.crt"
	install -m 644 "$PKI/ca.crt" "$disk/lib/kubelet/ca.crt"
	kubeconfig_for "$node" "$disk/lib/kubelet/kubeconfig"
	cat >"$disk/lib/kubelet/config.yaml" <<-YAML
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		address: ${NODE_IP[$node]}
		authentication:
		  anonymous: {enabled: false}
		  webhook: {enabled: true}
		  x509: {clientCAFile: /var/lib/kubelet/ca.crt}
		authorization: {mode: Webhook}
		tlsCertFile: /var/lib/kubelet/kubelet.crt
		tlsPrivateKeyFile: /var/lib/kubelet/kubelet.key
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		cgroupDriver: cgroupfs
		cgroupRoot: /$CGROUP/$node
		failCgroupV1: false
		failSwapOn: false
		volumePluginDir: /var/lib/kubelet/plugins
		clusterDNS: [$DNS_IP]
		clusterDomain: cluster.local
		resolvConf: ""
		# The machine's disk is not this cluster's to judge, and its images come from nowhere else.
		evictionHard: {memory.available: 100Mi, nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
		imageGCHighThresholdPercent: 100
		imageGCLowThresholdPercent: 99
		# An image may be both loaded and pulled; a loaded one needs no credentials then either.
		imagePullCredentialsVerificationPolicy: NeverVerify
		volumeStatsAggPeriod: -1s
		registerWithTaints: []
		nodeStatusReportFrequency: 1m
		shutdownGracePeriod: 0s
	YAML

	kubeconfig_for kube-proxy "$disk/lib/kube-proxy/kubeconfig"
	cat >"$disk/lib/kube-proxy/config.yaml" <<-YAML
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig}
		mode: iptables
		clusterCIDR: $POD_NET
		iptables: {localhostNodePorts: false}
		# These are settings of the whole machine, not of a network namespace.
		conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
	YAML
}

# Settings of the whole machine that a kubelet changes; `down` puts them back.
KERNEL_SETTINGS=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)

save_kernel_settings() {
	[ -s "$STATE/sysctl" ] && return
	sysctl "${KERNEL_SETTINGS[@]}" >"$STATE/sysctl.new"
	mv "$STATE/sysctl.new" "$STATE/sysctl"
}

restore_kernel_settings() {
	[ ! -s "$STATE/sysctl" ] || sysctl -q -p "$STATE/sysctl"
}

make_bridge() {
	if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
		! ip route get "$HOST_IP" 2>/dev/null | grep -qv -e '^ *cache' -e "$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/dev \1/p;q')" ||
			die "this machine already has a route to $NODE_NET: $(ip route get "$HOST_IP" | head -1); the cluster needs 10.213.0.0/16 for itself"
		ip link add "$BRIDGE" type bridge
	fi
	ip address replace "$HOST_IP/24" dev "$BRIDGE"
	ip link set "$BRIDGE" up
}

# The machine reaches pods and Services as a router outside the cluster would.
route_to_nodes() {
	local node
	for node in "${NODES[@]}"; do ip route replace "${NODE_PODS[$node]}" via "${NODE_IP[$node]}" dev "$BRIDGE"; done
	ip route replace "$SERVICE_NET" via "${NODE_IP[node-1]}" dev "$BRIDGE"
	sysctl -qw "net.ipv4.conf.$BRIDGE.route_localnet=1"
	local rule
	while read -ra rule; do
		iptables -w -t nat -C "${rule[@]}" 2>/dev/null || iptables -w -t nat -A "${rule[@]}"
	done < <(loopback_rules)
}

# What brings a node's loopback address to the node. (Inside a node, kube-proxy
# spreads 127.0.0.1 over the pods of all nodes, whatever externalTrafficPolicy says.)
loopback_rules() {
	local node
	for node in "${NODES[@]}"; do
		echo "OUTPUT -d ${NODE_LOOPBACK[$node]} -m comment --comment portcullis-e2e -j DNAT --to-destination ${NODE_IP[$node]}"
	done
	echo "POSTROUTING -s 127.0.0.0/8 -o $BRIDGE -m comment --comment portcullis-e2e -j MASQUERADE"
}

remove_loopback_rules() {
	local rule
	while read -ra rule; do
		while iptables -w -t nat -D "${rule[@]}" 2>/dev/null; do :; done
	done < <(loopback_rules)
}

start_node() {
	local node=$1
	node_init "$node" >/dev/null || power_on "$node"
	# The node waits for its end of the cable.
	ip link show "pc-$node" >/dev/null 2>&1 ||
		ip link add "pc-$node" type veth peer name eth0 netns "$(node_init "$node")"
	ip link set "pc-$node" master "$BRIDGE" up
}

power_on() {
	local node=$1 other routes=()
	stop_node "$node"
	make_cgroup "$node"
	write_node_configuration "$node"
	for other in "${NODES[@]}"; do
		[ "$other" = "$node" ] || routes+=("${NODE_PODS[$other]}=${NODE_IP[$other]}")
	done
	# kube-proxy catches what goes to a Service, but only once there is a route for it.
	routes+=("$SERVICE_NET=$HOST_IP")
	start_marked "$node" "$STATE/$node/init.log" \
		unshare --mount --uts --ipc --net --pid --fork --kill-child --mount-proc \
		"$CLUSTER_DIR/lib/node-init" "$node" "${NODE_IP[$node]}/24" "$(node_disk "$node")" "$BIN" "${routes[@]}"
	wait_for 10 node_init "$node" || die "$node did not start; see $STATE/$node/init.log"
}

# As when the power goes: nothing is told, the disk stays.
stop_node() {
	local node=$1
	stop_marked "$node" KILL
	kill_cgroup "$node"
	# The kernel drops the pair with the namespace, a moment later.
	ip link delete "pc-$node" 2>/dev/null || true
	wait_for 10 node_cgroup_gone "$node" ||
		die "processes of $node do not end: $(find "$(cgroups_of "$node" | head -1)" -name cgroup.procs -exec cat {} +)"
}

node_cgroup_gone() {
	remove_cgroup "$1"
	[ -z "$(cgroups_of "$1")" ]
}

node_is_ready() {
	[ "$(kubectl get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]
}
