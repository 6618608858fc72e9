{{/* The gateway's configuration: what is given, and the chart's own settings where nothing is. */}}
{{- define "gateway.config" -}}
{{- $given := deepCopy .Values.config }}
{{- $peer := dict
  "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Release.Namespace))
  "podSelector" (dict "matchLabels" (include "gateway.selector" . | fromYaml))
}}
{{- $admin := dict "listen" "0.0.0.0:8001" }}
{{- if .Values.admin.tokenSecret }}
{{- $_ := set $admin "token_file" "/etc/session-gateway-admin/token" }}
{{- end }}
{{- $ours := dict
  "spawner" "kubernetes"
  "listen" "0.0.0.0:8000"
  "admin" $admin
  "auth" .Values.auth
  "shutdown" (dict "grace" "10s")
  "networkPolicy" (dict "admitted" (list $peer))
}}
{{- include "gateway.fill" (dict "given" $given "ours" $ours) }}
{{- toYaml $given }}
{{- end }}

{{/* Adds, in place, the fields that are not given. Unlike sprig's merge it leaves false, 0 and empty lists as they are. */}}
{{- define "gateway.fill" -}}
{{- $given := .given }}
{{- range $field, $value := .ours }}
{{- if not (hasKey $given $field) }}
{{- $_ := set $given $field $value }}
{{- else if and (kindIs "map" $value) (kindIs "map" (get $given $field)) }}
{{- include "gateway.fill" (dict "given" (get $given $field) "ours" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The port of an address, such as 0.0.0.0:8000. */}}
{{- define "gateway.port" -}}
{{ regexFind "[0-9]+$" . }}
{{- end }}

{{/* A duration of the configuration, such as 1m 30s, in whole seconds. */}}
{{- define "gateway.seconds" -}}
{{- $seconds := 0 }}
{{- range $part := regexFindAll "[0-9]+ *[a-z]+" . -1 }}
{{- $number := regexFind "^[0-9]+" $part | atoi }}
{{- $unit := regexFind "[a-z]+$" $part }}
{{- if eq $unit "ms" }}
{{- $seconds = add $seconds (divf $number 1000 | ceil | int) }}
{{- else }}
{{- $factor := dict "s" 1 "m" 60 "h" 3600 }}
{{- $seconds = add $seconds (mul $number (get $factor (substr 0 1 $unit))) }}
{{- end }}
{{- end }}
{{- $seconds }}
{{- end }}

{{/*
How long a pod may take to end: the wait before SIGTERM, the delay, what the gateway takes after it, and time for its
last words, so that the kubelet never kills a gateway that still serves.
*/}}
{{- define "gateway.grace" -}}
{{- $shutdown := (include "gateway.config" . | fromYaml).shutdown }}
{{- $delay := include "gateway.seconds" ($shutdown.delay | default "") | atoi }}
{{- $grace := include "gateway.seconds" $shutdown.grace | atoi }}
{{- add .Values.preStopSeconds $delay $grace 5 }}
{{- end }}

{{/* What has to be set before anything is installed: all of it is told at once. */}}
{{- define "gateway.check" -}}
{{- $config := include "gateway.config" . | fromYaml }}
{{- $wrong := list }}
{{- $asks := not (has ($config.auth.mode | default "none") (list "none")) }}
{{- if not (or $asks $config.auth.none_is_fine) }}
{{- $wrong = append $wrong "No authentication is configured: whoever reaches the gateway may start sessions, and run commands in all of them. If others keep strangers away from it, such as a login in front of it or a private network, say so with --set auth.none_is_fine=true" }}
{{- end }}
{{- if not (dig "image" "repository" "" $config) }}
{{- $wrong = append $wrong "config.image.repository is not set: the gateway does not know which image its sessions run. Set it, such as --set config.image.repository=registry.example.com/dev-session" }}
{{- end }}
{{- with $wrong }}
{{- fail (printf "\n\n%s\n" (join "\n\n" .)) }}
{{- end }}
{{- end }}

{{/* The namespace that all sessions share; empty if each has its own, which is named after its uuid. */}}
{{- define "gateway.sharedNamespace" -}}
{{- $namespace := .Values.config.namespace | default "" }}
{{- if not (contains "{" $namespace) }}{{ $namespace }}{{ end }}
{{- end }}
