use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::contract::generation_service_client::GenerationServiceClient;
use crate::{Client, Error};

/// All calls of the contract, as generated.
pub type Stub = GenerationServiceClient<InterceptedService<Channel, Authorization>>;

/// The server ends connections that are pinged more often than every 5 s.
const KEEPALIVE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// 64 outputs of 2 MiB each, all inline.
const MAX_RECEIVE_BYTES: usize = 144 << 20;

/// How to reach a server.
#[derive(Clone)]
pub struct Builder {
    address: String,
    token: String,
    authorities: Option<Certificate>,
    reconnect_timeout: Duration,
}

impl Builder {
    pub(crate) fn new(address: String) -> Self {
        let reconnect_timeout = Duration::from_secs(30);
        Self { address, token: String::new(), authorities: None, reconnect_timeout }
    }

    /// Sends an API key or a token with every call.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// PEM of the authorities that may have signed the server's certificate; those of the system otherwise.
    pub fn authorities(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities = Some(Certificate::from_pem(pem));
        self
    }

    /// How long a stream or a transfer whose connection is lost is tried again, from the first failure after the last
    /// answer of the server; 30 seconds otherwise.
    pub fn reconnect_timeout(mut self, timeout: Duration) -> Self {
        self.reconnect_timeout = timeout;
        self
    }

    /// A client for this server; its first call connects. It must be called where tokio runs.
    ///
    /// # Errors
    ///
    /// The address is not `http://HOST:PORT` or `https://HOST:PORT`, or the token or a certificate cannot be read.
    pub fn connect(self) -> Result<Client, Error> {
        let invalid = |what: &str| Error::new(Code::InvalidArgument, what);
        let mut endpoint = Endpoint::from_shared(self.address.clone())
            .map_err(|_| invalid("the address is not http://HOST:PORT or https://HOST:PORT"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(false);
        if self.address.starts_with("https:") {
            let tls = ClientTlsConfig::new();
            let tls = match self.authorities {
                Some(authorities) => tls.ca_certificate(authorities),
                None => tls.with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| invalid(&error.to_string()))?;
        } else if !self.address.starts_with("http:") {
            return Err(invalid("the address is not http://HOST:PORT or https://HOST:PORT"));
        }
        let token = match self.token.as_str() {
            "" => None,
            token => Some(format!("Bearer {token}").parse().map_err(|_| invalid("the token is not ASCII"))?),
        };
        let stub = GenerationServiceClient::with_interceptor(endpoint.connect_lazy(), Authorization { token })
            .max_decoding_message_size(MAX_RECEIVE_BYTES);
        Ok(Client { stub, reconnect_timeout: self.reconnect_timeout, timeout: None })
    }
}

/// Sends the token with every call.
#[derive(Clone)]
pub struct Authorization {
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
