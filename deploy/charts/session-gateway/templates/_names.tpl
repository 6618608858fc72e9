{{/* The name of the gateway's objects. */}}
{{- define "gateway.name" -}}
{{- if contains "session-gateway" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-session-gateway{{ end }}
{{- end }}

{{/* The name of what belongs to no namespace, or lies in another one than the release's. */}}
{{- define "gateway.wideName" -}}
{{ .Release.Namespace }}:{{ include "gateway.name" . }}
{{- end }}

{{/* By which Services and policies find the gateway's pods. */}}
{{- define "gateway.selector" -}}
app.kubernetes.io/name: session-gateway
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name, namespace and labels of an object of the release's namespace. */}}
{{- define "gateway.metadata" -}}
name: {{ include "gateway.name" . }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "gateway.labels" . | nindent 2 }}
{{- end }}

{{/* To whom roles are given. */}}
{{- define "gateway.subjects" }}
subjects:
  - kind: ServiceAccount
    name: {{ include "gateway.name" . }}
    namespace: {{ .Release.Namespace | quote }}
{{- end }}
