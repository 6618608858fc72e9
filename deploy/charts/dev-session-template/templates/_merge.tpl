{{/*
Merges one object over another, in place, as Kubernetes does it (strategic merge patch): objects field by field, lists
whose items have a key item by item, all other values as a whole; null removes a field.
Takes a dict: base, over. A list is known by the name of its field, which is unambiguous within a pod's template. Only
lists that the chart's own template may have are here: any other comes as it is.
*/}}
{{- define "session.merge" -}}
{{- $keys := dict
  "containers" "name"
  "env" "name"
  "imagePullSecrets" "name"
  "ports" "containerPort"
  "volumeMounts" "mountPath"
  "volumes" "name"
-}}
{{- $base := .base }}
{{- range $field, $new := .over }}
{{- $old := index $base $field }}
{{- if kindIs "invalid" $new }}
{{- $_ := unset $base $field }}
{{- else if and (kindIs "map" $new) (kindIs "map" $old) }}
{{- include "session.merge" (dict "base" $old "over" $new) }}
{{- else if and (kindIs "slice" $new) (kindIs "slice" $old) (hasKey $keys $field) }}
{{- $key := get $keys $field }}
{{- range $item := $new }}
{{- $known := false }}
{{- range $other := $old }}
{{- if eq (toString (get $item $key)) (toString (get $other $key)) }}
{{- $known = true }}
{{- include "session.merge" (dict "base" $other "over" $item) }}
{{- end }}
{{- end }}
{{- if not $known }}
{{- $old = append $old $item }}
{{- end }}
{{- end }}
{{- $_ := set $base $field $old }}
{{- else }}
{{- $_ := set $base $field $new }}
{{- end }}
{{- end }}
{{- end }}
