{{/* Values of a pool: those of the chart, with its own over them; the claim of compiled networks is its own, too.
     Call with (dict "root" $ "name" …). */}}
{{- define "atelier.poolValues" -}}
{{- $values := mustMergeOverwrite (deepCopy .root.Values) (deepCopy (index .root.Values.pools .name)) -}}
{{- $_ := set $values.persistence "data" (dict "enabled" false "size" $values.scratch.size) -}}
{{- toYaml (omit $values "extraObjects") -}}
{{- end -}}

{{/* Values of the gateways: no device, no model. */}}
{{- define "atelier.gatewayValues" -}}
{{- $values := deepCopy .Values -}}
{{- $given := $values.gateway -}}
{{- if or $given.image.repository $given.image.tag $given.image.digest -}}
{{- $_ := set $values "image" (dict "repository" ($given.image.repository | default $values.image.repository) "tag" ($given.image.tag | default $values.image.tag) "digest" $given.image.digest "pullPolicy" $values.image.pullPolicy "pullSecrets" $values.image.pullSecrets) -}}
{{- end -}}
{{- range $key := list "resources" "priorityClassName" "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "podDisruptionBudget" -}}
{{- $_ := set $values $key (index $given $key) -}}
{{- end -}}
{{- $none := dict "enabled" false -}}
{{- $_ := set $values "persistence" (dict "data" (dict "enabled" false "size" $values.scratch.size) "models" $none "cache" $none) -}}
{{- $_ := set $values "prepare" (dict "pullModels" false "build" false) -}}
{{- $_ := set $values "sharedMemory" $none -}}
{{- $_ := set $values "runtimeClassName" "" -}}
{{- $_ := set $values "gpu" (dict "count" 0 "dra" $none) -}}
{{- toYaml (omit $values "extraObjects") -}}
{{- end -}}

{{/* Whether a pool is scaled by KEDA that asks the gateways; empty if not. */}}
{{- define "atelier.servesScaler" -}}
{{- $top := .Values.autoscaling -}}
{{- range $pool := .Values.pools -}}
{{- if and (eq (dig "autoscaling" "type" $top.type $pool) "keda") (eq (dig "autoscaling" "keda" "trigger" $top.keda.trigger $pool) "external") -}}yes{{- end -}}
{{- end -}}
{{- end -}}
