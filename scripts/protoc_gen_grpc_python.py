"""A protoc plugin that writes gRPC's Python stubs and their types, for files with a service.

gRPC's own generator is built into `grpc_tools.protoc`, where only that protoc can reach it,
and leaves an empty file for every file without a service.
This makes it a plugin like the others, so that `buf.gen.yaml` lists them all.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """The files that protoc writes for `request`, or its failure in `error`."""
    asked = set(request.file_to_generate)
    names = [file.name for file in request.proto_file if file.name in asked and file.service]
    response = CodeGeneratorResponse(
        supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    if not names:
        return response
    with TemporaryDirectory() as folder:
        code = _run_protoc(request, names, Path(folder))
        if code:
            response.error = f"grpc_tools.protoc ended with exit status {code}"
        for path in sorted(Path(folder).rglob("*.py*")):
            response.file.add(
                name=path.relative_to(folder).as_posix(), content=path.read_text("utf-8")
            )
    return response


def _run_protoc(request: CodeGeneratorRequest, names: list[str], folder: Path) -> int:
    descriptors = folder / "descriptors.binpb"
    descriptors.write_bytes(FileDescriptorSet(file=request.proto_file).SerializeToString())
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    arguments = [
        "protoc",
        f"--descriptor_set_in={descriptors}",
        f"--grpc_python_out={folder}",
        f"--plugin=protoc-gen-mypy_grpc={plugin}",
        f"--mypy_grpc_out=quiet,readable_stubs:{folder}",
        *names,
    ]
    return int(protoc.main(arguments))


if __name__ == "__main__":
    answer = generate(CodeGeneratorRequest.FromString(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(answer.SerializeToString())
