#!/usr/bin/env bash
# build.sh FOLDER: etcd, kube-apiserver and kube-scheduler from their Go modules; about 12 minutes of CPU time, once.
set -euo pipefail
bin=$(realpath -m "$1")
etcd=v3.7.3 kubernetes=v1.37.2
libraries=v0.${kubernetes#v1.}
export CGO_ENABLED=0 GOFLAGS=-mod=mod
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOCACHE=${GOCACHE:-$work/cache} # 4 GB

mkdir -p "$bin" "$work/etcd" "$work/kubernetes"
cd "$work/etcd"
go mod init etcd
go get -tool "go.etcd.io/etcd/server/v3@$etcd"
go build -trimpath -ldflags '-s -w' -o "$bin/etcd" go.etcd.io/etcd/server/v3

# Its modules name each other by a version that exists in its repository alone: v0.0.0.
cd "$work/kubernetes"
go_mod=$(go mod download -json "k8s.io/kubernetes@$kubernetes" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
{
  printf 'module cluster\ngo 1.26.0\nrequire k8s.io/kubernetes %s\n' "$kubernetes"
  printf 'tool (\n k8s.io/kubernetes/cmd/kube-apiserver\n k8s.io/kubernetes/cmd/kube-scheduler\n)\nreplace (\n'
  grep -oE 'k8s\.io/[a-z-]+ => ' "$go_mod" | grep -oE 'k8s\.io/[a-z-]+' | sort -u | sed "s|.*| & => & $libraries|"
  printf ')\n'
} >go.mod
go mod tidy
stamp=k8s.io/component-base/version
for command in kube-apiserver kube-scheduler; do
  go build -trimpath -o "$bin/$command" -ldflags \
    "-s -w -X $stamp.gitVersion=$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=37" "k8s.io/kubernetes/cmd/$command"
done
