# shellcheck shell=bash
# Images without a registry or a Docker engine.

# compose_image NAME BINARY FILE : a docker-archive of one static program and nothing else.
compose_image() {
	local name=$1 binary=$2 file=$3 work layer config
	work=$(mktemp -d)
	mkdir "$work/root" "$work/image"
	cp "$binary" "$work/root/$(basename "$binary")"
	tar -C "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/image/layer.tar" .
	layer=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
	jq -n --arg layer "sha256:$layer" --arg program "/$(basename "$binary")" '{
		architecture: "amd64", os: "linux",
		config: {Entrypoint: [$program], User: "65532:65532"},
		rootfs: {type: "layers", diff_ids: [$layer]}
	}' >"$work/image/config.json"
	config=$(sha256sum "$work/image/config.json" | cut -d' ' -f1)
	mv "$work/image/config.json" "$work/image/$config.json"
	jq -n --arg name "$name" --arg config "$config.json" \
		'[{Config: $config, RepoTags: [$name], Layers: ["layer.tar"]}]' >"$work/image/manifest.json"
	tar -C "$work/image" --mtime=@0 -cf "$file.new" .
	mv "$file.new" "$file"
	rm -rf "$work"
}

node_ctr() {
	local node=$1 init
	shift
	init=$(node_init "$node") || die "$node is not running; start it: e2e/cluster/node start $node"
	ctr --address "/proc/$init/root/run/containerd/containerd.sock" --namespace k8s.io "$@"
}

containerd_answers() { node_ctr "$1" version >/dev/null 2>&1; }

# import_image FILE : into every node, at the same time. Prints the images' names.
import_image() {
	local file=$1 node log jobs=() job failed=0
	log=$(mktemp -d)
	for node in "${NODES[@]}"; do
		node_ctr "$node" images import "$file" >"$log/$node" 2>&1 &
		jobs+=("$!")
	done
	for job in "${jobs[@]}"; do wait "$job" || failed=1; done
	[ "$failed" = 0 ] || die "cannot import $file: $(tail -qn 2 "$log"/*)"
	sed -n 's/^unpacking \([^ ]*\) .*/\1/p' "$log/${NODES[0]}"
	rm -r "$log"
}

has_image() { [ -n "$(node_ctr "$1" images ls -q "name==$2" 2>/dev/null)" ]; }

# The images that are made here: one program each, named after it (busybox
# is Debian's static one: a shell for tests). Composed once
# for each build of the programs.
OWN_IMAGES=(pause coredns echo busybox)

own_images() { echo "$CACHE/images/$(cut -c1-16 "$BIN/.stamps/coredns")"; }

import_own_images() {
	local program name file dir
	dir=$(own_images)
	mkdir -p "$dir"
	for program in "${OWN_IMAGES[@]}"; do
		name=docker.io/portcullis-e2e/$program:1
		file=$dir/$program.tar
		[ -s "$file" ] || compose_image "$name" "$(own_program "$program")" "$file"
		if ! has_image "${NODES[0]}" "$name" || ! has_image "${NODES[1]}" "$name"; then import_image "$file" >/dev/null; fi
	done
}

own_program() {
	if [ "$1" = busybox ]; then command -v busybox; else echo "$BIN/$1"; fi
}
