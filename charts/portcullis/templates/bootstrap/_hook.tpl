{{/* Annotations of an object that lives for the hook Job only; the argument is its weight. */}}
{{- define "portcullis.bootstrapHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
