{{/*
Names and labels. Objects of a namespace are named RELEASE-COMPONENT; cluster-wide ones carry the namespace as well.
*/}}

{{/* Selector labels of one component: dict "root" $ "component" "operator". They must never change. */}}
{{- define "portcullis.selector" -}}
app.kubernetes.io/name: portcullis
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of one component's objects. */}}
{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/part-of: portcullis
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of a component's pods: the selector, commonLabels and podLabels. No version: it would restart pods for nothing. */}}
{{- define "portcullis.podLabels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/part-of: portcullis
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name of a cluster-wide object: dict "root" $ "component" "operator". */}}
{{- define "portcullis.clusterName" -}}
portcullis:{{ .root.Release.Namespace }}:{{ .root.Release.Name }}:{{ .component }}
{{- end }}

{{/* repository[:tag][@digest] of dict "image" .Values.image "default" .Chart.AppVersion. */}}
{{- define "portcullis.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .default }}
{{- end }}
{{- end }}

{{/* URL of the bus. */}}
{{- define "portcullis.natsUrl" -}}
{{- if .Values.nats.enabled -}}
{{- if or .Values.bus.url .Values.bus.operatorSecret .Values.bus.agentSecret }}
{{- fail "bus.* describes your own NATS, and nats.enabled is true: for your own set nats.enabled=false, for the bundled one leave bus.* empty" }}
{{- end -}}
nats://{{ .Release.Name }}-nats.{{ .Release.Namespace }}.svc:4222
{{- else -}}
{{ required "bus.url is required when nats.enabled is false: the URL of your NATS, as nats://host:4222" .Values.bus.url }}
{{- end }}
{{- end }}

{{/* The Secrets with the keys of the bus; the hook Job makes those that are not given. */}}
{{- define "portcullis.operatorSecret" -}}
{{ .Values.bus.operatorSecret | default (printf "%s-bus-operator" .Release.Name) }}
{{- end }}
{{- define "portcullis.agentSecret" -}}
{{ .Values.bus.agentSecret | default (printf "%s-bus-agent" .Release.Name) }}
{{- end }}

{{/* Bytes that a stream holds at most: dict "root" $ "stream" "modules" "share" 2 "own" "512Mi". */}}
{{- define "portcullis.streamBytes" -}}
{{- $size := .root.Values.nats.storeSize -}}
{{- $set := get .root.Values.bus.maxBytes .stream -}}
{{- if $set -}}
{{ $set }}
{{- else if .root.Values.nats.enabled -}}
{{ div (mul (regexFind "^[0-9]+" $size | int64) (ternary 1073741824 1048576 (hasSuffix "Gi" $size))) .share }}
{{- else -}}
{{ .own }}
{{- end }}
{{- end }}
