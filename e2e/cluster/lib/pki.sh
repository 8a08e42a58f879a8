# shellcheck shell=bash
# One authority for the cluster, a certificate for each component, and the
# kubeconfigs made of them. Kept until `down`.

PKI=$STATE/pki

# issue NAME SUBJECT [SUBJECT_ALT_NAMES] : a certificate for a client or a server.
issue() {
	local name=$1 subject=$2 names=${3:-}
	[ -s "$PKI/$name.crt" ] && return
	openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$name.key"
	openssl req -new -key "$PKI/$name.key" -subj "$subject" -out "$PKI/$name.csr"
	{
		echo "basicConstraints=CA:FALSE"
		echo "keyUsage=digitalSignature"
		echo "extendedKeyUsage=clientAuth,serverAuth"
		[ -z "$names" ] || echo "subjectAltName=$names"
	} >"$PKI/$name.ext"
	openssl x509 -req -in "$PKI/$name.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 365 \
		-extfile "$PKI/$name.ext" -out "$PKI/$name.crt.new" 2>/dev/null
	rm "$PKI/$name.csr" "$PKI/$name.ext"
	mv "$PKI/$name.crt.new" "$PKI/$name.crt"
}

# kubeconfig_for NAME FILE : with the certificates inside, so that it can move.
kubeconfig_for() {
	local name=$1 file=$2
	[ -s "$file" ] && return
	cat >"$file.new" <<-YAML
		apiVersion: v1
		kind: Config
		clusters:
		  - name: portcullis-e2e
		    cluster:
		      server: $API
		      certificate-authority-data: $(base64 -w0 <"$PKI/ca.crt")
		users:
		  - name: $name
		    user:
		      client-certificate-data: $(base64 -w0 <"$PKI/$name.crt")
		      client-key-data: $(base64 -w0 <"$PKI/$name.key")
		contexts:
		  - name: portcullis-e2e
		    context: {cluster: portcullis-e2e, user: $name}
		current-context: portcullis-e2e
	YAML
	chmod 600 "$file.new"
	mv "$file.new" "$file"
}

make_pki() {
	local node
	mkdir -p "$PKI"
	chmod 700 "$PKI"
	if [ ! -s "$PKI/ca.crt" ]; then
		openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/ca.key"
		openssl req -x509 -new -key "$PKI/ca.key" -subj /CN=portcullis-e2e -days 365 \
			-addext keyUsage=critical,keyCertSign,cRLSign -out "$PKI/ca.crt.new"
		mv "$PKI/ca.crt.new" "$PKI/ca.crt"
	fi
	if [ ! -s "$PKI/service-accounts.pub" ]; then
		openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/service-accounts.key"
		openssl ec -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub.new" 2>/dev/null
		mv "$PKI/service-accounts.pub.new" "$PKI/service-accounts.pub"
	fi
	issue kube-apiserver /CN=kube-apiserver "IP:$HOST_IP,IP:127.0.0.1,IP:$KUBERNETES_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
	issue kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
	issue admin /O=system:masters/CN=admin
	issue kube-controller-manager /CN=system:kube-controller-manager
	issue kube-scheduler /CN=system:kube-scheduler
	issue kube-proxy /CN=system:kube-proxy
	for node in "${NODES[@]}"; do
		issue "$node" "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:${NODE_IP[$node]}"
	done
	kubeconfig_for admin "$KUBECONFIG_ADMIN"
	kubeconfig_for kube-controller-manager "$PKI/kube-controller-manager.kubeconfig"
	kubeconfig_for kube-scheduler "$PKI/kube-scheduler.kubeconfig"
}
