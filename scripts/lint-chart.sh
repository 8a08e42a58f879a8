#!/bin/sh
# Lints the chart and validates what it renders, once for each file of values in charts/portcullis/ci.
#
#   scripts/lint-chart.sh HELM KUBECONFORM SCHEMA-DIR
set -eu

helm=${1:?"usage: scripts/lint-chart.sh HELM KUBECONFORM SCHEMA-DIR"}
kubeconform=${2:?"usage: scripts/lint-chart.sh HELM KUBECONFORM SCHEMA-DIR"}
schemas=${3:?"usage: scripts/lint-chart.sh HELM KUBECONFORM SCHEMA-DIR"}

cd "$(dirname "$0")/.."
chart=charts/portcullis
rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT

for values in "$chart"/ci/*-values.yaml; do
    echo "chart with ${values##*/}:"
    "$helm" lint --strict --quiet "$chart" --values "$values"
    "$helm" template portcullis "$chart" --namespace portcullis-system --values "$values" > "$rendered"
    # PodMonitor is not a kind of Kubernetes: its schema belongs to the Prometheus operator.
    "$kubeconform" -strict -summary -skip PodMonitor \
        -schema-location "$schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json" - < "$rendered"
    if grep -q "minAvailable:" "$rendered"; then
        echo "lint-chart.sh: a budget with minAvailable makes a drain wait for ever when it counts one replica: use maxUnavailable" >&2
        exit 1
    fi
done

# A key that nobody knows is refused, at the top and below.
for unknown in upstrem=x nodeAgent.upstrem=x nodeAgent.service.prot=80 nats.persistence.size=1Gi; do
    if "$helm" template portcullis "$chart" --values "$chart/ci/default-values.yaml" --set "$unknown" > "$rendered" 2>&1; then
        echo "lint-chart.sh: $chart accepts the unknown value $unknown" >&2
        exit 1
    fi
    if ! grep -q "additional properties .* not allowed" "$rendered"; then
        cat "$rendered" >&2
        echo "lint-chart.sh: $chart refused $unknown, but not because it is unknown" >&2
        exit 1
    fi
done
