{{/*
The pod's template. It is the one that session-gateway makes, app.kubernetes.io/managed-by apart, so that a session runs
alike whoever started it: what changes here changes there too.
*/}}
{{- define "session.pod" -}}
{{- $name := include "session.name" . -}}
metadata:
  labels:
    {{- include "session.labels" . | nindent 4 }}
spec:
  serviceAccountName: {{ $name }}
  automountServiceAccountToken: false
  # Variables of every Service of the namespace, which no session needs and which may hide its own.
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    # Otherwise each start changes the owner of every file of the workspace.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: session
      image: {{ include "session.image" .Values.image | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      ports:
        {{- range $service := list "preview" "chat" "vscode" }}
        - name: {{ $service }}
          containerPort: {{ (get $.Values.service $service).port }}
          protocol: TCP
        {{- end }}
      env:
        {{- include "session.env" . | nindent 8 }}
      resources:
        {{- range $kind, $amounts := .Values.resources }}
        {{ $kind }}:
          {{- range $resource, $amount := $amounts }}
          {{ $resource }}: {{ include "session.text" $amount | quote }}
          {{- end }}
        {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
      # Of one that crashed, its last lines are said beside its exit code.
      terminationMessagePolicy: FallbackToLogsOnError
      volumeMounts:
        - name: workspace
          mountPath: {{ .Values.storage.mountPath | quote }}
  volumes:
    - name: workspace
      {{- if .Values.storage.enabled }}
      persistentVolumeClaim:
        claimName: {{ $name }}-workspace
      {{- else }}
      emptyDir: {}
      {{- end }}
{{- end }}

{{/* The image's reference. Takes the values of the image. */}}
{{- define "session.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag }}{{ end }}
{{- end }}

{{/* The container's environment. */}}
{{- define "session.env" -}}
- name: SESSION_UUID
  value: {{ .Values.project.uuid | quote }}
- name: PROJECT_ID
  value: {{ include "session.text" .Values.project.id | quote }}
- name: USER_ID
  value: {{ include "session.text" .Values.user.id | quote }}
- name: WORKSPACE
  value: {{ .Values.storage.mountPath | quote }}
{{- range $service := list "chat" "preview" "vscode" }}
{{- $spec := get $.Values.service $service }}
- name: {{ upper $service }}_PORT
  value: {{ $spec.port | quote }}
- name: {{ upper $service }}_BASE_PATH
  value: {{ printf "/%s%s" $.Values.project.uuid $spec.path | quote }}
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ include "session.text" $value | quote }}
{{- end }}
{{- end }}
