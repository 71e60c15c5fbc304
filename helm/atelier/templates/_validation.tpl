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
{{- if .Values.pools -}}
{{- include "atelier.validatePools" . -}}
{{- else -}}
{{- include "atelier.validatePod" (dict "Values" .Values "path" "") -}}
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

{{/* What one kind of pods has. Call with (dict "Values" … "path" "pools.NAME." …). */}}
{{- define "atelier.validatePod" -}}
{{- if and .Values.prepare.build (not .Values.persistence.cache.enabled) -}}
{{- fail (printf "%sprepare.build: needs persistence.cache.enabled, or what was compiled is lost with the pod" .path) -}}
{{- end -}}
{{- if and .Values.prepare.pullModels (not .Values.persistence.models.enabled) -}}
{{- fail (printf "%sprepare.pullModels: needs persistence.models.enabled, or what was downloaded is lost with the pod" .path) -}}
{{- end -}}
{{- if and .Values.prepare.pullModels .Values.persistence.models.readOnly -}}
{{- fail (printf "%sprepare.pullModels: persistence.models.readOnly allows no downloads; set one of them to false" .path) -}}
{{- end -}}
{{- if and .Values.gpu.dra.enabled (gt (int .Values.gpu.count) 0) -}}
{{- fail (printf "%sgpu: set either count or dra.enabled, not both: each would allocate a device" .path) -}}
{{- end -}}
{{- range $name, $_ := merge (dict) (.Values.resources.limits | default dict) (.Values.resources.requests | default dict) -}}
{{- if contains "/" $name -}}
{{- fail (printf "%sresources: %s is set by gpu.resource and gpu.count" $.path $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Gateways and workers meet in a database and a bucket, and every engine has workers. */}}
{{- define "atelier.validatePools" -}}
{{- if ne (dig "store" "type" "sqlite" .Values.config) "postgres" -}}
{{- fail "pools: gateways and workers meet in a database; set config.store.type: postgres and config.store.dsn: ${NAME}, with environment.NAME from an existing secret" -}}
{{- end -}}
{{- if ne (dig "artifacts" "type" "directory" .Values.config) "s3" -}}
{{- fail "pools: workers and gateways share a bucket; set config.artifacts.type: s3 and config.artifacts.bucket" -}}
{{- end -}}
{{- if not .Values.config.engines -}}
{{- fail "config.engines: name the engines that the pools run" -}}
{{- end -}}
{{- $scaling := .Values.gateway.autoscaling -}}
{{- if and $scaling.enabled (lt (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- fail (printf "gateway.autoscaling.maxReplicas: %d is less than minReplicas = %d" (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- $run := list -}}
{{- range $name, $pool := .Values.pools -}}
{{- $engines := $pool.engines | default (keys $.Values.config.engines) -}}
{{- range $engines -}}
{{- if not (hasKey $.Values.config.engines .) -}}
{{- fail (printf "pools.%s.engines: %q is not in config.engines; there are %s" $name . (keys $.Values.config.engines | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- $run = concat $run $engines -}}
{{- $values := include "atelier.poolValues" (dict "root" $ "name" $name) | fromYaml -}}
{{- include "atelier.validatePod" (dict "Values" $values "path" (printf "pools.%s." $name)) -}}
{{- include "atelier.validatePool" (dict "root" $ "Values" $values "name" $name "pool" $pool) -}}
{{- end -}}
{{- range $engine := keys .Values.config.engines | sortAlpha -}}
{{- if not (has $engine $run) -}}
{{- fail (printf "config.engines.%s: no pool runs it; add it to the engines of one, or remove it" $engine) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "atelier.validatePool" -}}
{{- $scaling := .Values.autoscaling -}}
{{- if gt (add (len (include "atelier.fullname" .root)) (len .name)) 44 -}}
{{- fail (printf "pools.%s: with %s before it its objects have names of more than 63 letters; set a shorter fullnameOverride, or rename the pool" .name (include "atelier.fullname" .root)) -}}
{{- end -}}
{{- if ne .Values.persistence.models.enabled .root.Values.persistence.models.enabled -}}
{{- fail (printf "pools.%s.persistence.models.enabled: weights are in one place for all pools; set persistence.models.enabled" .name) -}}
{{- end -}}
{{- if and (ne $scaling.type "none") (lt (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- fail (printf "pools.%s.autoscaling.maxReplicas: %d is less than minReplicas = %d" .name (int $scaling.maxReplicas) (int $scaling.minReplicas)) -}}
{{- end -}}
{{- if and (ne $scaling.type "none") (hasKey .pool "replicas") -}}
{{- fail (printf "pools.%s.replicas: the autoscaler sets the number; remove replicas, or set autoscaling.type: none" .name) -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "prometheus") (not $scaling.keda.prometheusAddress) -}}
{{- fail (printf "pools.%s.autoscaling.keda.prometheusAddress: name the Prometheus that has the metrics" .name) -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "external") (eq .root.Values.tls.clientCertificates "required") (not .root.Values.autoscaling.keda.clientCertificateSecret) -}}
{{- fail "autoscaling.keda.clientCertificateSecret: tls.clientCertificates asks KEDA for a certificate, too; name the secret that has it" -}}
{{- end -}}
{{- if and (eq (int .Values.rollout.maxSurge) 0) (eq (int .Values.rollout.maxUnavailable) 0) -}}
{{- fail (printf "pools.%s.rollout: maxSurge and maxUnavailable are both 0, so nothing could ever change" .name) -}}
{{- end -}}
{{- $most := ternary (int $scaling.maxReplicas) (int (ternary .pool.replicas 1 (hasKey .pool "replicas"))) (ne $scaling.type "none") -}}
{{- range $kind := list "models" "cache" -}}
{{- with index $.Values.persistence $kind -}}
{{- $shared := or (gt $most 1) (and (eq $kind "models") (gt (len $.root.Values.pools) 1)) (and $.Values.prepare.job.enabled (or $.Values.prepare.build $.Values.prepare.pullModels)) -}}
{{- if and .enabled (not .existingClaim) $shared (not (or (has "ReadWriteMany" .accessModes) (has "ReadOnlyMany" .accessModes))) -}}
{{- fail (printf "pools.%s.persistence.%s.accessModes: several pods use the volume, so it must be ReadWriteMany; or set enabled: false, and each pod has its own" $.name $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
