#!/bin/sh
# Writes the JSON schemas that kubeconform validates manifests against, one file a kind, from the OpenAPI description that
# the module k8s.io/kubernetes ships. kubeconform would fetch the same from the network; this way lint works without.
#
#   scripts/kubernetes-schemas.sh SWAGGER.JSON DIR
set -eu

swagger=${1:?"usage: scripts/kubernetes-schemas.sh SWAGGER.JSON DIR"}
dir=${2:?"usage: scripts/kubernetes-schemas.sh SWAGGER.JSON DIR"}

new=$dir.new
rm -rf "$new"
mkdir -p "$new"
# Unknown keys are errors (-strict); the two types of Kubernetes that are written as text or as a number.
jq -c '
    .definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {oneOf: [{type: "string"}, {type: "number"}]}
    | .definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {oneOf: [{type: "string"}, {type: "integer"}]}
    | {definitions: .definitions | map_values(
        if has("properties") and (has("additionalProperties") | not) then .additionalProperties = false else . end)}
' "$swagger" > "$new/definitions.json"
# The names that kubeconform looks for: KIND-GROUP-VERSION.json, of the group the first label only.
jq -r '
    .definitions | to_entries[] | .key as $definition
    | .value["x-kubernetes-group-version-kind"]? // [] | select(length == 1) | .[0]
    | ([.kind, (.group | split(".")[0] // ""), .version] | map(select(. != "")) | join("-") | ascii_downcase)
        + "\t" + $definition
' "$swagger" | while IFS="$(printf '\t')" read -r name definition; do
    # shellcheck disable=SC2016 # $ref is a word of JSON schema
    printf '{"$ref": "definitions.json#/definitions/%s"}\n' "$definition" > "$new/$name.json"
done
rm -rf "$dir"
mv "$new" "$dir"
