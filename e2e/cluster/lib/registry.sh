# shellcheck shell=bash
# Two OCI registries, processes of the machine: one open, one that asks for a
# name and a password. Each listens on the cluster's network; socat brings it to
# loopback. Inside the cluster they are Services (manifests/registry.yaml).

REGISTRIES=(registry registry-auth)
# shellcheck disable=SC2153 # two names, both set in env.sh
declare -A REGISTRY_PORTS=([registry]=$REGISTRY_PORT [registry-auth]=$REGISTRY_AUTH_PORT)
REGISTRY_USER=puller

registry_service() { echo "$1.portcullis-e2e.svc:5000"; }

# registry_hosts DIR : where the nodes' containerd finds them; it does not use the cluster's DNS.
registry_hosts() {
	local name port host
	for name in "${REGISTRIES[@]}"; do
		port=${REGISTRY_PORTS[$name]}
		for host in "$(registry_service "$name")" "localhost:$port" "$HOST_IP:$port"; do
			mkdir -p "$1/$host"
			printf '[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$HOST_IP:$port" >"$1/$host/hosts.toml"
		done
	done
}

write_registry_configuration() {
	local name=$1 dir=$STATE/$1 password auth host
	mkdir -p "$dir"
	cat >"$dir/config.yml" <<-YAML
		version: 0.1
		log: {level: warn, accesslog: {disabled: true}}
		storage:
		  filesystem: {rootdirectory: $dir/data}
		  delete: {enabled: true}
		http:
		  addr: $HOST_IP:${REGISTRY_PORTS[$name]}
		  secret: portcullis-e2e
	YAML
	[ "$name" = registry-auth ] || return 0
	if [ ! -s "$dir/dockerconfig.json" ]; then
		password=$(openssl rand -hex 16)
		"$BIN/registry" htpasswd "$REGISTRY_USER" "$password" >"$dir/htpasswd"
		printf '%s\n' "$REGISTRY_USER" >"$dir/user"
		(umask 077 && printf '%s\n' "$password" >"$dir/password")
		auth=$(printf '%s:%s' "$REGISTRY_USER" "$password" | base64 -w0)
		for host in "$(registry_service "$name")" "localhost:$REGISTRY_AUTH_PORT" "$HOST_IP:$REGISTRY_AUTH_PORT"; do
			jq -n --arg host "$host" --arg auth "$auth" '{($host): {auth: $auth}}'
		done | jq -s '{auths: add}' >"$dir/dockerconfig.json.new"
		mv "$dir/dockerconfig.json.new" "$dir/dockerconfig.json"
	fi
	cat >>"$dir/config.yml" <<-YAML
		auth:
		  htpasswd: {realm: portcullis-e2e, path: $dir/htpasswd}
	YAML
}

# 401 is an answer too.
registry_answers() { curl -s -o /dev/null --noproxy '*' --max-time 2 "http://127.0.0.1:${REGISTRY_PORTS[$1]}/v2/"; }

start_registries() {
	local name port
	for name in "${REGISTRIES[@]}"; do
		port=${REGISTRY_PORTS[$name]}
		write_registry_configuration "$name"
		is_running "$name" || start_marked "$name" "$STATE/log/$name.log" \
			env OTEL_TRACES_EXPORTER=none "$BIN/registry" serve "$STATE/$name/config.yml"
		is_running "$name-loopback" || start_marked "$name-loopback" "$STATE/log/$name.log" \
			socat "TCP-LISTEN:$port,bind=127.0.0.1,reuseaddr,fork,backlog=128" "TCP:$HOST_IP:$port"
	done
	for name in "${REGISTRIES[@]}"; do
		wait_for 15 registry_answers "$name" || die "$name does not answer; see $STATE/log/$name.log"
	done
}

stop_registries() {
	local name
	for name in "${REGISTRIES[@]}"; do
		stop_marked "$name-loopback" KILL
		stop_marked "$name" TERM
	done
}
