{{/* Mounts of the server and of what prepares its start. */}}
{{- define "atelier.mounts" -}}
- {name: config, mountPath: /etc/atelier/config, readOnly: true}
{{- if .Values.files }}
- {name: files, mountPath: /etc/atelier/files, readOnly: true}
{{- end }}
{{- if .Values.tls.enabled }}
- {name: tls, mountPath: /etc/atelier/tls, readOnly: true}
{{- end }}
{{- if .Values.auth.keys.existingSecret }}
- {name: keys, mountPath: /etc/atelier/keys, readOnly: true}
{{- end }}
- {name: data, mountPath: /data}
{{- if .Values.persistence.models.enabled }}
- {name: models, mountPath: /models{{ if .Values.persistence.models.readOnly }}, readOnly: true{{ end }}}
{{- end }}
- {name: scratch, mountPath: /tmp, subPath: tmp}
- {name: scratch, mountPath: /home/atelier, subPath: home}
{{- if .Values.persistence.cache.enabled }}
- {name: cache, mountPath: /home/atelier/.cache}
{{- end }}
{{- if .Values.sharedMemory.enabled }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A claim, or an emptyDir in its place. Call with (dict "root" $ "name" … "values" …). */}}
{{- define "atelier.claimVolume" -}}
- name: {{ .name }}
  {{- if .values.enabled }}
  persistentVolumeClaim:
    claimName: {{ default (include "atelier.claimName" .) .values.existingClaim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .values.size }}
  {{- end }}
{{- end -}}

{{/* Compiled networks are for one kind of device, so each pool has its own; weights are for all. */}}
{{- define "atelier.claimName" -}}
{{- if and .root.pool (eq .name "cache") -}}{{ include "atelier.workloadName" .root }}-cache{{- else -}}{{ include "atelier.fullname" .root }}-{{ .name }}{{- end -}}
{{- end -}}

{{- define "atelier.volumes" -}}
- name: config
  configMap:
    name: {{ include "atelier.workloadName" . }}-config
{{- if .Values.files }}
- name: files
  configMap:
    name: {{ include "atelier.fullname" . }}-files
{{- end }}
{{- if .Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "atelier.tlsSecret" . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.auth.keys }}
{{- if .existingSecret }}
- name: keys
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .key }}, path: {{ .key }}}]
{{- end }}
{{- end }}
{{ include "atelier.claimVolume" (dict "root" . "name" "data" "values" .Values.persistence.data) }}
{{- if .Values.persistence.models.enabled }}
{{ include "atelier.claimVolume" (dict "root" . "name" "models" "values" .Values.persistence.models) }}
{{- end }}
{{- if .Values.persistence.cache.enabled }}
{{ include "atelier.claimVolume" (dict "root" . "name" "cache" "values" .Values.persistence.cache) }}
{{- end }}
- name: scratch
  emptyDir:
    sizeLimit: {{ .Values.scratch.size }}
{{- if .Values.sharedMemory.enabled }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.sharedMemory.size }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "atelier.environment" -}}
env:
  - name: HOME
    value: /home/atelier
  {{- range $name, $given := .Values.environment }}
  - name: {{ $name }}
    {{- if hasKey $given "value" }}
    value: {{ $given.value | quote }}
    {{- else }}
    valueFrom:
      secretKeyRef:
        name: {{ $given.existingSecret }}
        key: {{ $given.key }}
    {{- end }}
  {{- end }}
{{- with .Values.environmentFromSecrets }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "atelier.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $limits := $resources.limits | default dict -}}
{{- $_ := set $limits .Values.gpu.resource (.Values.gpu.count | int | toString) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- if .Values.gpu.dra.enabled -}}
{{- $_ := set $resources "claims" (list (dict "name" "gpu")) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* What the pod is told of what it prepares: changes with the image and the configuration. */}}
{{- define "atelier.prepared" -}}
prepare-{{ list (include "atelier.image" .) (include "atelier.config" .) .Values.prepare | toJson | sha256sum | trunc 8 }}
{{- end -}}

{{/* The file that the Job leaves when it is done. */}}
{{- define "atelier.preparedFile" -}}
{{ ternary "/home/atelier/.cache" "/models" .Values.persistence.cache.enabled }}/.{{ include "atelier.prepared" . }}
{{- end -}}

{{/* Commands that prepare the start, as lines of a shell. */}}
{{- define "atelier.preparationScript" -}}
{{- $options := "--config /etc/atelier/config/atelier.yaml" -}}
set -eu
{{- if .Values.prepare.pullModels }}
atelier models pull {{ $options }}
{{- end }}
{{- if .Values.prepare.build }}
atelier build {{ $options }}
{{- end }}
{{- end -}}

{{/* A container that prepares the start. Call with (dict "root" $ "name" … "command" (list …)). */}}
{{- define "atelier.preparation" -}}
- name: {{ .name }}
  image: {{ include "atelier.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: {{ toJson .command }}
  {{- include "atelier.environment" .root | nindent 2 }}
  resources:
    {{- include "atelier.resources" .root | nindent 4 }}
  securityContext:
    {{- toYaml .root.Values.securityContext | nindent 4 }}
  volumeMounts:
    {{- include "atelier.mounts" .root | nindent 4 }}
{{- end -}}

{{/* Standard health checks in plain text; kubelet knows neither TLS nor keys. Call with (dict "service" … "values" …). */}}
{{- define "atelier.probe" -}}
grpc:
  port: 50052
  service: {{ .service | quote }}
{{ toYaml .values }}
{{- end -}}

{{- define "atelier.container" -}}
name: atelier
image: {{ include "atelier.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [atelier, serve, --config, /etc/atelier/config/atelier.yaml]
{{ include "atelier.environment" . }}
ports:
  {{- if ne (.component | default "server") "worker" }}
  - {name: grpc, containerPort: 50051, protocol: TCP}
  {{- if .Values.http.enabled }}
  - {name: http, containerPort: 8080, protocol: TCP}
  {{- end }}
  {{- end }}
  {{- if and (eq (.component | default "server") "gateway") (include "atelier.servesScaler" .root) }}
  - {name: scaler, containerPort: 50053, protocol: TCP}
  {{- end }}
  - {name: health, containerPort: 50052, protocol: TCP}
  - {name: metrics, containerPort: 9464, protocol: TCP}
startupProbe:
  {{- include "atelier.probe" (dict "service" "atelier/liveness" "values" .Values.probes.startup) | nindent 2 }}
livenessProbe:
  {{- include "atelier.probe" (dict "service" "atelier/liveness" "values" .Values.probes.liveness) | nindent 2 }}
readinessProbe:
  {{- include "atelier.probe" (dict "service" "" "values" .Values.probes.readiness) | nindent 2 }}
{{- if gt (int .Values.drain.preStopSeconds) 0 }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ .Values.drain.preStopSeconds }}
{{- end }}
resources:
  {{- include "atelier.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
volumeMounts:
  {{- include "atelier.mounts" . | nindent 2 }}
{{- end -}}

{{- define "atelier.podSpec" -}}
serviceAccountName: {{ include "atelier.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "atelier.graceSeconds" . }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- $selector := dict "labelSelector" (dict "matchLabels" (include "atelier.selectorLabels" $ | fromYaml)) }}
  {{- range . }}
  - {{- merge (dict) . $selector | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- if .Values.gpu.dra.enabled }}
resourceClaims:
  - name: gpu
    resourceClaimTemplateName: {{ include "atelier.workloadName" . }}-gpu
{{- end }}
{{- if eq (.component | default "server") "prepare" }}
restartPolicy: OnFailure
containers:
  {{- $script := printf "%s\ntouch %s" (include "atelier.preparationScript" .) (include "atelier.preparedFile" .) }}
  {{- include "atelier.preparation" (dict "root" . "name" "prepare" "command" (list "sh" "-c" $script)) | nindent 2 }}
{{- else }}
{{- include "atelier.initContainers" . }}
containers:
  - {{- include "atelier.container" . | nindent 4 }}
{{- end }}
volumes:
  {{- include "atelier.volumes" . | nindent 2 }}
{{- end -}}

{{- define "atelier.initContainers" -}}
{{- $config := list "--config" "/etc/atelier/config/atelier.yaml" -}}
{{- if or .Values.prepare.pullModels .Values.prepare.build }}
initContainers:
  {{- if and .pool .Values.prepare.job.enabled }}
  {{- $wait := printf "n=0\nuntil [ -e %s ] || [ $n -ge %d ]; do sleep 5; n=$((n + 5)); done\n[ ! -e %s ] || exit 0" (include "atelier.preparedFile" .) (int .Values.prepare.job.waitSeconds) (include "atelier.preparedFile" .) }}
  {{- include "atelier.preparation" (dict "root" . "name" "wait-for-preparation" "command" (list "sh" "-c" (printf "%s\n%s" $wait (include "atelier.preparationScript" .)))) | nindent 2 }}
  {{- else }}
  {{- if .Values.prepare.pullModels }}
  {{- include "atelier.preparation" (dict "root" . "name" "pull-models" "command" (concat (list "atelier" "models" "pull") $config)) | nindent 2 }}
  {{- end }}
  {{- if .Values.prepare.build }}
  {{- include "atelier.preparation" (dict "root" . "name" "build" "command" (concat (list "atelier" "build") $config)) | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "atelier.podMetadata" -}}
labels:
  {{- include "atelier.selectorLabels" . | nindent 2 }}
  {{- with merge (dict) .Values.podLabels .Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "atelier.config" . | sha256sum }}
  checksum/files: {{ toJson .Values.files | sha256sum }}
  {{- with merge (dict) .Values.podAnnotations .Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
