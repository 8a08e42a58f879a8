# shellcheck shell=bash
# etcd, the API server, the controllers and the scheduler: processes of the
# machine itself, as with a managed control plane. They are no node.

CONTROL_PLANE=(etcd kube-apiserver kube-controller-manager kube-scheduler)

# The controllers of what a cluster of two fixed nodes runs; the others (clouds,
# volumes, autoscaling, certificates) would only watch.
CONTROLLERS=(
	clusterrole-aggregation-controller cronjob-controller daemonset-controller
	deployment-controller disruption-controller endpoints-controller
	endpointslice-controller garbage-collector-controller job-controller
	namespace-controller node-lifecycle-controller pod-garbage-collector-controller
	replicaset-controller resourcequota-controller root-ca-certificate-publisher-controller
	serviceaccount-controller serviceaccount-token-controller statefulset-controller
	taint-eviction-controller ttl-after-finished-controller
	validatingadmissionpolicy-status-controller
)

start_etcd() {
	is_running etcd && return
	# Nothing here has to survive a power cut, so etcd need not wait for the disk.
	start_marked etcd "$STATE/log/etcd.log" "$BIN/etcd" --name e2e --data-dir "$STATE/etcd" \
		--listen-client-urls "$ETCD_CLIENT" --advertise-client-urls "$ETCD_CLIENT" \
		--listen-peer-urls "$ETCD_PEER" --initial-advertise-peer-urls "$ETCD_PEER" \
		--initial-cluster "e2e=$ETCD_PEER" --unsafe-no-fsync --log-level warn
}

start_api_server() {
	is_running kube-apiserver && return
	start_marked kube-apiserver "$STATE/log/kube-apiserver.log" "$BIN/kube-apiserver" \
		--etcd-servers "$ETCD_CLIENT" \
		--bind-address "$HOST_IP" --advertise-address "$HOST_IP" --secure-port 6443 \
		--tls-cert-file "$PKI/kube-apiserver.crt" --tls-private-key-file "$PKI/kube-apiserver.key" \
		--client-ca-file "$PKI/ca.crt" --authorization-mode Node,RBAC \
		--enable-admission-plugins NodeRestriction --allow-privileged \
		--service-cluster-ip-range "$SERVICE_NET" \
		--service-account-issuer https://kubernetes.default.svc.cluster.local \
		--service-account-key-file "$PKI/service-accounts.pub" \
		--service-account-signing-key-file "$PKI/service-accounts.key" \
		--kubelet-certificate-authority "$PKI/ca.crt" \
		--kubelet-client-certificate "$PKI/kubelet-client.crt" \
		--kubelet-client-key "$PKI/kubelet-client.key" \
		--kubelet-preferred-address-types InternalIP --profiling=false
}

start_controllers() {
	is_running kube-controller-manager || start_marked kube-controller-manager \
		"$STATE/log/kube-controller-manager.log" "$BIN/kube-controller-manager" \
		--kubeconfig "$PKI/kube-controller-manager.kubeconfig" \
		--controllers "$(IFS=, && echo "${CONTROLLERS[*]}")" \
		--root-ca-file "$PKI/ca.crt" --service-account-private-key-file "$PKI/service-accounts.key" \
		--use-service-account-credentials --leader-elect=false --profiling=false
	is_running kube-scheduler || start_marked kube-scheduler \
		"$STATE/log/kube-scheduler.log" "$BIN/kube-scheduler" \
		--kubeconfig "$PKI/kube-scheduler.kubeconfig" --leader-elect=false --profiling=false
}

api_ready() { [ "$(kubectl get --raw /readyz 2>/dev/null)" = ok ]; }

stop_control_plane() {
	local i
	for ((i = ${#CONTROL_PLANE[@]} - 1; i >= 0; i--)); do
		stop_marked "${CONTROL_PLANE[$i]}" KILL
	done
}
