use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::contract::{Generation, State};

/// What a call failed with, read from its status and the google.rpc details.
#[derive(Clone, Debug)]
pub struct Error {
    /// The code of gRPC.
    pub code: Code,
    /// The reason of the server, such as `INVALID_REQUEST`; empty where a library or a proxy has answered.
    pub reason: String,
    /// What happened and what to change.
    pub message: String,
    /// Descriptions of wrong fields, by their paths in the request, such as `image.width`.
    pub fields: BTreeMap<String, String>,
    /// The time after which the same request may succeed; none if it will not, or nobody knows.
    pub retry_after: Option<Duration>,
    /// The generation that the call had begun or followed; empty if there is none.
    pub generation_id: String,
    /// The status of the call; none where there was no call.
    pub status: Option<Box<Status>>,
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: String::new(),
            message: message.into(),
            fields: BTreeMap::new(),
            retry_after: None,
            generation_id: String::new(),
            status: None,
        }
    }

    /// Whether the connection was lost, or the server said so: whoever has a request id can attach again.
    pub(crate) fn is_lost(&self) -> bool {
        if !self.reason.is_empty() {
            return self.reason == "DRAINING";
        }
        // What libraries and proxies make of it; a deadline of the caller's own is not among them.
        matches!(
            self.code,
            Code::Unavailable
                | Code::Internal
                | Code::Unknown
                | Code::Cancelled
                | Code::Aborted
                | Code::DeadlineExceeded
        ) && self.status.is_some()
    }

    /// The time after which gRPC's retries may repeat the call; none if they must not.
    pub(crate) fn pushback(&self) -> Option<Option<Duration>> {
        let metadata = self.status.as_ref().map(|status| status.metadata());
        match metadata.and_then(|found| found.get("grpc-retry-pushback-ms")) {
            None => Some(None),
            Some(value) => Some(Some(Duration::from_millis(value.to_str().ok()?.parse().ok()?))),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let mut error = Self::new(status.code(), status.message());
        if let Some(info) = details.error_info().filter(|info| info.domain == "atelier") {
            error.reason.clone_from(&info.reason);
            error.generation_id = info.metadata.get("generation_id").cloned().unwrap_or_default();
        }
        for one in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
            let field = one.field.strip_prefix("generate.").unwrap_or(&one.field);
            error.fields.insert(field.into(), one.description.clone());
        }
        error.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        error.status = Some(Box::new(status));
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?}", self.code)?;
        if !self.reason.is_empty() {
            write!(to, " ({})", self.reason)?;
        }
        write!(to, ": {}", self.message)
    }
}

impl std::error::Error for Error {}

/// The generation, if it has succeeded.
pub(crate) fn outcome(generation: Generation) -> Result<Generation, Error> {
    let mut error = if let Some(failure) = &generation.failure {
        let mut error = Error::new(Code::from_i32(failure.code), &failure.message);
        error.reason.clone_from(&failure.reason);
        error
    } else if generation.state() == State::Cancelled {
        let mut error = Error::new(Code::Cancelled, "the generation was cancelled");
        error.reason = "CANCELLED".into();
        error
    } else {
        return Ok(generation);
    };
    error.generation_id = generation.id;
    Err(error)
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn errors_have_the_details_of_their_status() {
        let metadata = [("generation_id".to_string(), "g".to_string())];
        let mut details = ErrorDetails::with_error_info("INVALID_REQUEST", "atelier", metadata);
        details.add_bad_request_violation("generate.image.width", "at least 16");
        details.set_retry_info(Some(Duration::from_secs(1)));
        let error = Error::from(Status::with_error_details(Code::InvalidArgument, "too narrow", details));
        assert_eq!((error.reason.as_str(), error.generation_id.as_str()), ("INVALID_REQUEST", "g"));
        assert_eq!(error.fields["image.width"], "at least 16");
        assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(error.to_string(), "InvalidArgument (INVALID_REQUEST): too narrow");
    }

    #[test]
    fn pushback_is_that_of_the_server() {
        let mut status = Status::new(Code::Unavailable, "busy");
        assert_eq!(Error::from(status.clone()).pushback(), Some(None));
        status.metadata_mut().insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        assert_eq!(Error::from(status.clone()).pushback(), Some(Some(Duration::from_millis(1500))));
        status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        assert_eq!(Error::from(status).pushback(), None);
    }

    #[test]
    fn addresses_say_whether_they_are_encrypted() {
        for address in ["localhost:50051", "ftp://localhost:50051", ""] {
            assert!(crate::Client::builder(address).connect().is_err(), "{address}");
        }
    }
}
