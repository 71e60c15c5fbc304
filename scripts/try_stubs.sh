#!/usr/bin/env bash
# What `make stubs-test` does: make stubs for languages without a client here with the generators of Debian, and compile
# those that a compiler is there for. try_stubs.sh FOLDER keeps the packages and the stubs under FOLDER.
set -euo pipefail

folder=$(mkdir -p "$1" && realpath "$1")
root=$folder/root
if [[ ! -d $root ]]; then
  mkdir -p "$folder/packages" "$root.new"
  cd "$folder/packages"
  apt-get download --quiet=2 protobuf-compiler libprotoc32 libprotobuf32 protobuf-compiler-grpc libgrpc29 libgrpc++1.51 \
    libgrpc-dev libgrpc++-dev libprotobuf-dev libprotoc-dev libabsl-dev libabsl20220623
  for package in *.deb; do dpkg --extract "$package" "$root.new"; done
  mv "$root.new" "$root"
  cd - >/dev/null
fi
export LD_LIBRARY_PATH=$root/usr/lib/$(uname -m)-linux-gnu
protoc=$root/usr/bin/protoc
mapfile -t contract < <(cd proto && ls atelier/v1/*.proto; cd third_party && ls buf/validate/*.proto)

generate() { # LANGUAGE [PLUGIN]
  local out=$folder/$1
  rm -rf "$out" && mkdir -p "$out"
  local service=()
  local files=("${contract[@]}")
  if [[ $1 == php ]]; then files=("${contract[@]/buf*/}"); fi # of proto2, which PHP has none of
  if (($# > 1)); then service=(--grpc_out="$out" --plugin=protoc-gen-grpc="$root/usr/bin/$2"); fi
  "$protoc" -I proto -I proto/third_party -I "$root/usr/include" "--${1}_out=$out" "${service[@]}" ${files[@]}
  echo "$1: $(find "$out" -type f | wc -l) files"
}

"$protoc" --version
generate csharp
generate kotlin
generate objc
generate php grpc_php_plugin
generate ruby grpc_ruby_plugin
generate cpp grpc_cpp_plugin
if command -v g++ >/dev/null; then
  for source in "$folder"/cpp/atelier/v1/*.cc; do
    g++ -std=c++17 -fsyntax-only -isystem "$root/usr/include" -I "$folder/cpp" "$source"
  done
  echo 'cpp: compiled'
fi
if command -v ruby >/dev/null; then find "$folder/ruby" -name '*.rb' -exec ruby -c {} \; >/dev/null && echo 'ruby: parsed'; fi
if command -v php >/dev/null; then find "$folder/php" -name '*.php' -exec php -l {} \; >/dev/null && echo 'php: parsed'; fi
