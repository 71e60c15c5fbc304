{{/* The configuration of the server: the values, and what belongs to the pod. */}}
{{- define "atelier.config" -}}
{{- include "atelier.validateSecrets" (dict "value" .Values.config "path" "config" "inside" false) -}}
{{- $host := .Values.listenHost -}}
{{- $own := dict
  "listen" (printf "%s:50051" $host)
  "health_listen" (printf "%s:50052" $host)
  "metrics" (printf "%s:9464" $host)
  "data_dir" "/data/atelier"
  "drain_seconds" .Values.drain.seconds
  "allow_insecure" true
-}}
{{- if .Values.http.enabled -}}
{{- $_ := set $own "http" (printf "%s:8080" $host) -}}
{{- end -}}
{{- if .Values.persistence.models.enabled -}}
{{- $_ := set $own "models_dir" "/models" -}}
{{- end -}}
{{- if .Values.tls.enabled -}}
{{- $tls := dict "certificate" "/etc/atelier/tls/tls.crt" "key" "/etc/atelier/tls/tls.key" -}}
{{- if eq .Values.tls.clientCertificates "required" -}}
{{- $_ := set $tls "client_ca" "/etc/atelier/tls/ca.crt" -}}
{{- $_ := set $tls "client_certificates" "required" -}}
{{- end -}}
{{- $_ := set $own "tls" $tls -}}
{{- end -}}
{{- if .Values.auth.keys.existingSecret -}}
{{- $keys := dict "file" (printf "/etc/atelier/keys/%s" .Values.auth.keys.key) -}}
{{- $_ := set $own "auth" (dict "keys" $keys) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}
