# shellcheck shell=bash
# How a story is told on the terminal: numbered steps, the commands that are run, and signs of life from a build.
# After cluster/lib/env.sh.

step() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }

show() {
	printf '\033[2m$ %s\033[0m\n' "$*" >&2
	"$@"
}

# progress WHAT PID LOG : says every 15 seconds how far a build is.
progress() {
	local what=$1 pid=$2 log=$3 last=$SECONDS line
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if [ $((SECONDS - last)) -ge 15 ]; then
			last=$SECONDS
			line=$(tail -n 1 "$log" | tr -d '\r' | cut -c1-90)
			say "$what: ${line:-working}"
		fi
	done
	wait "$pid" || { tail -n 30 "$log" >&2; die "$what failed; its output is in $log. Run it again: it goes on where it stopped"; }
}
