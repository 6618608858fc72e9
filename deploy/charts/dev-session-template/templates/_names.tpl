{{/* The name of the session's objects, to which Services and the claim add a suffix. */}}
{{- define "session.name" -}}
dev-session-{{ .Values.project.uuid }}
{{- end }}

{{/* A value as text. A number from a values file is a float here, and a large one would be printed as 1.2345678e+07. */}}
{{- define "session.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* By which Services, Deployment and NetworkPolicy find the pod. */}}
{{- define "session.selector" -}}
dev-session/uuid: {{ .Values.project.uuid | quote }}
{{- end }}

{{/* Labels of every object, the pod included: session-gateway knows the session by them. */}}
{{- define "session.labels" -}}
app.kubernetes.io/name: dev-session
app.kubernetes.io/instance: {{ include "session.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "session.selector" . }}
dev-session/project-id: {{ include "session.text" .Values.project.id | quote }}
dev-session/user-id: {{ include "session.text" .Values.user.id | quote }}
{{- end }}

{{/* Name, namespace and labels of an object. Takes a list: the chart's context, and the suffix of the name. */}}
{{- define "session.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "session.name" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "session.labels" $root | nindent 2 }}
{{- end }}

{{/*
What the schema cannot say: it is checked while the Deployment is made, and everything that is wrong is told at once.
*/}}
{{- define "session.check" -}}
{{- $wrong := list }}
{{- if not .Values.image.repository }}
{{- $wrong = append $wrong "image.repository is not set: there is no image that would fit everybody. Set it to the image of your sessions, such as --set image.repository=registry.example.com/dev-session" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.admitted) }}
{{- $wrong = append $wrong "networkPolicy.enabled is true and networkPolicy.admitted is empty: nobody could reach the session. Set it to a list of NetworkPolicyPeers: the pods of session-gateway" }}
{{- end }}
{{- range $field := list "port" "path" }}
{{- $all := list }}
{{- range $service := list "chat" "preview" "vscode" }}
{{- $all = append $all (toString (get (get $.Values.service $service) $field)) }}
{{- end }}
{{- if ne (len $all) (len (uniq $all)) }}
{{- $wrong = append $wrong (printf "service.chat.%[1]s, service.preview.%[1]s and service.vscode.%[1]s are %s: each needs its own" $field (join ", " $all)) }}
{{- end }}
{{- end }}
{{- with $wrong }}
{{- fail (printf "\n\n%s\n" (join "\n" .)) }}
{{- end }}
{{- end }}
