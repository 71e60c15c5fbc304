{{/* Name of the chart in names and labels. */}}
{{- define "atelier.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* Whole name of objects; at most 53 letters, so that endings fit. */}}
{{- define "atelier.fullname" -}}
{{- $name := include "atelier.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "atelier.selectorLabels" -}}
app.kubernetes.io/name: {{ include "atelier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .component | default "server" }}
{{- with .pool }}
atelier.dev/pool: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of the pods that answer calls. */}}
{{- define "atelier.frontLabels" -}}
{{- include "atelier.selectorLabels" (dict "Values" .Values "Chart" .Chart "Release" .Release "component" (ternary "gateway" "server" (not (empty .Values.pools)))) -}}
{{- end -}}

{{/* Labels of everything of the release. */}}
{{- define "atelier.releaseLabels" -}}
app.kubernetes.io/name: {{ include "atelier.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Name of what runs these pods. */}}
{{- define "atelier.workloadName" -}}
{{- $suffix := .pool | default (ternary "gateway" "" (eq (.component | default "server") "gateway")) -}}
{{- include "atelier.fullname" . -}}{{- with $suffix -}}-{{ . }}{{- end -}}
{{- end -}}

{{/* Name, namespace, labels and annotations of an object. Call with (dict "root" $ "name" … "labels" … "annotations" …). */}}
{{- define "atelier.metadata" -}}
{{- $base := include "atelier.selectorLabels" .root | fromYaml -}}
{{- $_ := set $base "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- $_ := set $base "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $base "app.kubernetes.io/managed-by" .root.Release.Service -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- merge (dict) (.labels | default dict) $base .root.Values.commonLabels | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "atelier.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atelier.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "atelier.image" -}}
{{- $tagged := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}{{ $tagged }}@{{ .Values.image.digest }}{{- else -}}{{ $tagged }}{{- end -}}
{{- end -}}

{{- define "atelier.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}{{ include "atelier.fullname" . }}-tls{{- else -}}{{ .Values.tls.existingSecret }}{{- end -}}
{{- end -}}

{{/* Names under which callers in the cluster reach the server. */}}
{{- define "atelier.dnsNames" -}}
{{- $name := include "atelier.fullname" . -}}
{{- $names := list -}}
{{- range $service := list $name (printf "%s-pods" $name) (printf "%s-scaler" $name) -}}
{{- $names = concat $names (list $service (printf "%s.%s" $service $.Release.Namespace) (printf "%s.%s.svc" $service $.Release.Namespace) (printf "%s.%s.svc.cluster.local" $service $.Release.Namespace)) -}}
{{- end -}}
{{- concat $names .Values.tls.certManager.dnsNames | uniq | toYaml -}}
{{- end -}}

{{/* Grace period of the pod: what the drain needs. */}}
{{- define "atelier.graceSeconds" -}}
{{- $needed := add .Values.drain.preStopSeconds (ceil .Values.drain.seconds) .Values.drain.marginSeconds | int -}}
{{- .Values.terminationGracePeriodSeconds | default $needed -}}
{{- end -}}
