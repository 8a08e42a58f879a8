# shellcheck shell=bash
# Is the cluster as `up` leaves it? Asked by `up` and `status`.

dns_ready() {
	[ "$(kubectl -n kube-system get daemonset coredns -o 'jsonpath={.status.numberReady}/{.status.desiredNumberScheduled}' 2>/dev/null)" = "${#NODES[@]}/${#NODES[@]}" ]
}

nodes_ready() {
	local ready
	ready=$(kubectl get nodes -o 'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}' 2>/dev/null) || return 1
	local node
	for node in "${NODES[@]}"; do [[ " $ready" == *" $node=True "* ]] || return 1; done
}

healthy() {
	local name
	[ -s "$KUBECONFIG_ADMIN" ] && [ -x "$BIN/kubectl" ] || return 1
	for name in "${CONTROL_PLANE[@]}" "${NODES[@]}"; do is_running "$name" || return 1; done
	for name in "${REGISTRIES[@]}"; do registry_answers "$name" || return 1; done
	api_ready && nodes_ready && dns_ready
}
