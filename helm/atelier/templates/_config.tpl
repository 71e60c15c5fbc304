{{/* The configuration of the server: the values, and what belongs to the pod. Workers are told of their own engines alone,
     and gateways of none: so they need no keys of services of others, and a change restarts only those whom it concerns. */}}
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
{{- $root := .root | default . -}}
{{- if and (eq (.component | default "server") "gateway") (include "atelier.servesScaler" $root) -}}
{{- $_ := set $own "scaler_listen" (printf "%s:50053" $host) -}}
{{- end -}}
{{- if $root.Values.persistence.models.enabled -}}
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
{{- $config := mergeOverwrite (deepCopy .Values.config) $own -}}
{{- if .pool -}}
{{- $_ := set $config "role" "worker" -}}
{{- $kept := dict -}}
{{- range .engines -}}
{{- $_ := set $kept . (index $config.engines .) -}}
{{- end -}}
{{- $_ := set $config "engines" $kept -}}
{{- else if eq (.component | default "server") "gateway" -}}
{{- $_ := set (unset $config "engines") "role" "gateway" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
