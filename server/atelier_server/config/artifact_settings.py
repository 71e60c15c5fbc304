"""The section of the configuration that says where the bytes of artifacts are kept."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from atelier_engines.addresses import Url
from atelier_engines.config import Section


class ArtifactSettings(Section):
    """Where the bytes of artifacts are kept."""

    type: Literal["directory", "s3"] = Field(
        "directory",
        description="directory: `artifacts` in `data_dir`. s3: a bucket of an S3-compatible store, for which the "
        "server is installed with its extra `s3`; the other keys are for it alone.",
    )
    bucket: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?$",
        description="The bucket, which must exist.",
    )
    prefix: str = Field(
        "atelier",
        pattern=r"^([A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*)?$",
        description="Folder in the bucket for the objects of this server. Two servers with databases of their own need "
        "folders of their own: each deletes in its folder what its database does not know.",
    )
    endpoint: Url | None = Field(
        None, description="Address of the store; null for that of AWS in `region`."
    )
    region: str | None = Field(
        None, description="Region; null for `AWS_REGION`, or else us-east-1."
    )
    access_key_id: SecretStr | None = Field(
        None,
        description="Id of the key; null for where AWS' own tools look: `AWS_ACCESS_KEY_ID`, the web identity of a "
        "pod, or the machine's role.",
    )
    secret_access_key: SecretStr | None = Field(None, description="The secret of the key.")
    timeout_seconds: float = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds for one request to the store, which carries at most 8 MiB; one that fails is sent again "
        "twice.",
    )

    @model_validator(mode="after")
    def _check_bucket(self) -> Self:
        given = self.model_fields_set - {"type"}
        if self.type == "s3" and not self.bucket:
            msg = "type s3 needs a `bucket`"
            raise ValueError(msg)
        if self.type == "directory" and given:
            msg = f"{', '.join(sorted(given))}: only for type s3; set `type: s3`, or leave them out"
            raise ValueError(msg)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            msg = "access_key_id and secret_access_key belong together: set both, or neither"
            raise ValueError(msg)
        return self
