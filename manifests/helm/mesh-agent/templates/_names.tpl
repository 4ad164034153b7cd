{{/* Labels of every object. */}}
{{- define "mesh-agent.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
app.kubernetes.io/name: mesh-agent
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* What the DaemonSet finds its Pods by. */}}
{{- define "mesh-agent.selector" -}}
app.kubernetes.io/name: mesh-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The API server's address, or nothing. An IPv6 address stands in brackets. */}}
{{- define "mesh-agent.apiServer" -}}
{{- with .Values.k8sServiceHost -}}
{{- if contains ":" . -}}
{{- printf "https://[%s]:%v" (trimAll "[]" .) $.Values.k8sServicePort -}}
{{- else -}}
{{- printf "https://%s:%v" . $.Values.k8sServicePort -}}
{{- end -}}
{{- end -}}
{{- end }}
