#!/usr/bin/env bash
# protobufjs replaces a message field that stands twice on the wire; the specification says that parsers merge it.
#
# "Embedded message fields that are not repeated: the parser merges multiple instances of the same field"
# (protobuf.dev, Encoding, "Last One Wins"). Concatenating two encodings of one message is thus a valid way to
# build it: a server may send the head of an answer, then a large field of the same inner message.
# The Python runtime merges; protobufjs keeps the last instance alone, and loses the rest without an error.
#
# Versions: protobufjs 7.5.4 on Node 18 or later; protobuf (Python) 6.33.0. Seen on 2026-11-27:
#   protobufjs 7.5.4: {"inner":{"b":2,"c":[2]}}
#   protobuf 6.33.0:  {"inner": {"a": 1, "b": 2, "c": [1, 2]}}
#
# What follows for Atelier: it writes every singular message field of an answer once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund protobufjs@7.5.4
python3 -m venv env
env/bin/pip --quiet install protobuf==6.33.0

# Field 1 of Outer is an Inner {a = 1, c = [1]}, then field 1 again, an Inner {b = 2, c = [2]}.
bytes=0a0508011a01010a0510021a0102

javascript=$(node -e '
const schema = `syntax = "proto3";
message Outer { Inner inner = 1; }
message Inner { int32 a = 1; int32 b = 2; repeated int32 c = 3; }`;
const Outer = require("protobufjs").parse(schema).root.lookupType("Outer");
console.log(JSON.stringify(Outer.toObject(Outer.decode(Buffer.from(process.argv[1], "hex")))));
' "$bytes")

python=$(env/bin/python - "$bytes" <<'PYTHON'
import json, sys
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

file = descriptor_pb2.FileDescriptorProto(name="finding.proto", syntax="proto3")
outer, inner = file.message_type.add(name="Outer"), file.message_type.add(name="Inner")
outer.field.add(name="inner", number=1, type=11, label=1, type_name=".Inner")
for number, name in enumerate("ab", 1):
    inner.field.add(name=name, number=number, type=5, label=1)
inner.field.add(name="c", number=3, type=5, label=3)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
message = message_factory.GetMessageClass(pool.FindMessageTypeByName("Outer"))()
message.ParseFromString(bytes.fromhex(sys.argv[1]))
print(json.dumps(json_format.MessageToDict(message)))
PYTHON
)

echo "protobufjs 7.5.4: $javascript"
echo "protobuf 6.33.0:  $python"
[ "$javascript" = '{"inner":{"b":2,"c":[2]}}' ]
[ "$python" = '{"inner": {"a": 1, "b": 2, "c": [1, 2]}}' ]
