# shellcheck shell=bash
# Everything a command may need, in the order in which the parts build on each other.
# shellcheck source-path=SCRIPTDIR
lib=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=env.sh
. "$lib/env.sh"
# shellcheck source=process.sh
. "$lib/process.sh"
# shellcheck source=pki.sh
. "$lib/pki.sh"
# shellcheck source=control-plane.sh
. "$lib/control-plane.sh"
# shellcheck source=registry.sh
. "$lib/registry.sh"
# shellcheck source=node.sh
. "$lib/node.sh"
# shellcheck source=image.sh
. "$lib/image.sh"
# shellcheck source=health.sh
. "$lib/health.sh"
