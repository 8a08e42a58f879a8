# shellcheck shell=bash
# Processes that outlive the command. Each carries a mark in its environment, so
# that it is found whatever became of the command that started it, and no file
# of process ids can be wrong after a crash.

MARK=PORTCULLIS_E2E

# start_marked NAME LOG COMMAND... : in the background, away from this terminal.
start_marked() {
	local name=$1 log=$2
	shift 2
	mkdir -p "$(dirname "$log")"
	env "$MARK=$STATE/$name" setsid "$@" >>"$log" 2>&1 </dev/null 9>&- &
	disown
}

# pids_of NAME : those that carry the mark now.
pids_of() {
	local file
	grep -lzx "$MARK=$STATE/$1" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ file _; do
		is_alive "$file" && echo "$file"
	done || true
}

# A zombie is not alive.
is_alive() { [[ "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)" == [!ZX]* ]]; }

is_running() { [ -n "$(pids_of "$1")" ]; }

# stop_marked NAME SIGNAL : and wait until it is gone.
stop_marked() {
	local pids pid
	pids=$(pids_of "$1")
	[ -n "$pids" ] || return 0
	for pid in $pids; do kill -"$2" "$pid" 2>/dev/null || true; done
	wait_for 10 is_stopped "$1" && return
	for pid in $(pids_of "$1"); do kill -KILL "$pid" 2>/dev/null || true; done
	wait_for 10 is_stopped "$1" || die "$1 does not stop, not even by SIGKILL: $(pids_of "$1")"
}

is_stopped() { ! is_running "$1"; }

# Every mark under a cluster's folder, this one's or another's.
clusters_running() {
	sed -zn "s|^$MARK=\(.*\)/[^/]*$|\1|p" /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | sort -u || true
}
