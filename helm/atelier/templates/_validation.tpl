{{/* What the schema cannot say: values that contradict each other are rejected, with what to change. */}}
{{- define "atelier.validate" -}}
{{- $drain := .Values.drain -}}
{{- $needed := add $drain.preStopSeconds (ceil $drain.seconds) $drain.marginSeconds | int -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- if lt (int .) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is less than drain.preStopSeconds + drain.seconds + drain.marginSeconds = %d: work would be killed before it is finished or requeued; make it %d, or null" (int .) $needed $needed) -}}
{{- end -}}
{{- end -}}
{{- if not $drain.requeueLongJobs -}}
{{- range $name, $engine := .Values.config.engines -}}
{{- if and (kindIs "float64" $engine.timeout_seconds) (gt (float64 $engine.timeout_seconds) (float64 $drain.seconds)) -}}
{{- fail (printf "config.engines.%s.timeout_seconds: %v is more than drain.seconds = %v, so a job may not finish when the pod stops; raise drain.seconds, or set drain.requeueLongJobs to have it continue after the next start" $name $engine.timeout_seconds $drain.seconds) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "atelier.validateAccess" . -}}
{{- if and .Values.prepare.build (not .Values.persistence.cache.enabled) -}}
{{- fail "prepare.build: needs persistence.cache.enabled, or what was compiled is lost with the pod" -}}
{{- end -}}
{{- if and .Values.prepare.pullModels (not .Values.persistence.models.enabled) -}}
{{- fail "prepare.pullModels: needs persistence.models.enabled, or what was downloaded is lost with the pod" -}}
{{- end -}}
{{- if and .Values.prepare.pullModels .Values.persistence.models.readOnly -}}
{{- fail "prepare.pullModels: persistence.models.readOnly allows no downloads; set one of them to false" -}}
{{- end -}}
{{- if and .Values.gpu.dra.enabled (gt (int .Values.gpu.count) 0) -}}
{{- fail "gpu: set either count or dra.enabled, not both: each would allocate a device" -}}
{{- end -}}
{{- range $name, $_ := merge (dict) (.Values.resources.limits | default dict) (.Values.resources.requests | default dict) -}}
{{- if contains "/" $name -}}
{{- fail (printf "resources: %s is set by gpu.resource and gpu.count" $name) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled -}}
{{- fail "monitoring: enable serviceMonitor or podMonitor, not both: every metric would be counted twice" -}}
{{- end -}}
{{- include "atelier.validateRoutes" . -}}
{{- end -}}

{{/* What leads from outside to the ports. */}}
{{- define "atelier.validateRoutes" -}}
{{- range $name := list "grpcRoute" "httpRoute" -}}
{{- with index $.Values.gatewayApi $name -}}
{{- if and .enabled (not .parentRefs) -}}
{{- fail (printf "gatewayApi.%s.parentRefs: name the Gateway that the route belongs to" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "ingress" "httpIngress" -}}
{{- with index $.Values $name -}}
{{- if and .enabled (not .hosts) -}}
{{- fail (printf "%s.hosts: name at least one host" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gatewayApi.backendTls.enabled (not .Values.tls.enabled) -}}
{{- fail "gatewayApi.backendTls.enabled: the server does not encrypt; set tls.enabled, too" -}}
{{- end -}}
{{- if not .Values.http.enabled -}}
{{- range $key, $given := dict "config.http_origins" .Values.config.http_origins "gatewayApi.httpRoute.enabled" .Values.gatewayApi.httpRoute.enabled "httpIngress.enabled" .Values.httpIngress.enabled -}}
{{- if $given -}}
{{- fail (printf "%s: there is no HTTP port; set http.enabled, too" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Who may call, and how that is encrypted. */}}
{{- define "atelier.validateAccess" -}}
{{- $tls := .Values.tls -}}
{{- if and $tls.enabled $tls.certManager.enabled $tls.existingSecret -}}
{{- fail "tls: set either existingSecret or certManager.enabled" -}}
{{- else if and $tls.enabled $tls.certManager.enabled (not $tls.certManager.issuer.name) -}}
{{- fail "tls.certManager.issuer.name: name the issuer" -}}
{{- else if and $tls.enabled (not $tls.certManager.enabled) (not $tls.existingSecret) -}}
{{- fail "tls.existingSecret: name a secret of the type kubernetes.io/tls, or set tls.certManager.enabled" -}}
{{- else if and (not $tls.enabled) (or $tls.existingSecret $tls.certManager.enabled (eq $tls.clientCertificates "required")) -}}
{{- fail "tls.enabled: is false, but other values of tls are set" -}}
{{- end -}}
{{- $knowsCallers := or .Values.auth.keys.existingSecret .Values.config.auth (eq $tls.clientCertificates "required") -}}
{{- if and (not .Values.allowInsecure) (not (and $tls.enabled $knowsCallers)) -}}
{{- $missing := ternary "no keys (auth.keys.existingSecret)" (ternary "no TLS (tls.enabled)" "neither TLS (tls.enabled) nor keys (auth.keys.existingSecret)" (not (empty $knowsCallers))) $tls.enabled -}}
{{- fail (printf "allowInsecure: every pod that reaches the service could call it, for it has %s; set them, or allowInsecure: true" $missing) -}}
{{- end -}}
{{- end -}}

{{/* Keys of services must be ${NAME}, from a secret. Call with (dict "value" … "path" … "inside" false). */}}
{{- define "atelier.validateSecrets" -}}
{{- $secrets := list "access_key_id" "api_key" "dsn" "headers" "password" "secret_access_key" "secret_inputs" "token" -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (or $.inside (has $key $secrets)) (kindIs "string" $value) (ne $value "") (not (contains "${" $value)) -}}
{{- fail (printf "%s.%s: must be ${NAME}, with environment.NAME from an existing secret; values of a release are stored for everybody who may read it" $.path $key) -}}
{{- end -}}
{{- include "atelier.validateSecrets" (dict "value" $value "path" (printf "%s.%s" $.path $key) "inside" (or $.inside (has $key $secrets))) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "atelier.validateSecrets" (dict "value" $value "path" (printf "%s[%d]" $.path $index) "inside" $.inside) -}}
{{- end -}}
{{- end -}}
{{- end -}}
