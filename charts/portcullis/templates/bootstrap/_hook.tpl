{{/*
Annotations of an object that lives for the hook Job only: dict "weight" "-10" "delete" "when".
*/}}
{{- define "portcullis.bootstrapHook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: {{ .delete }}
{{- end }}
