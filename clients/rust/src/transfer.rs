use std::fmt::Write;
use std::sync::Arc;

use futures_util::stream;
use ring::digest::{SHA256, digest};
use tonic::Code;

use crate::contract::download_artifact_response::Part as Received;
use crate::contract::upload_artifact_request::Part;
use crate::contract::{Artifact, DownloadArtifactRequest, UploadArtifactRequest, UploadHeader};
use crate::reachability::Reachability;
use crate::{Client, Error};

/// The largest chunk of the contract.
const CHUNK_BYTES: usize = 512 << 10;

impl Client {
    /// Stores a file and returns its artifact; the server checks its SHA-256. The media type is that of an image or of
    /// audio, such as `image/png`.
    ///
    /// # Errors
    ///
    /// The file was rejected, or the call has failed.
    pub async fn upload(&self, data: impl Into<Arc<[u8]>>, media_type: &str) -> Result<Artifact, Error> {
        self.limit(self.send(data.into(), media_type)).await
    }

    async fn send(&self, data: Arc<[u8]>, media_type: &str) -> Result<Artifact, Error> {
        let header =
            UploadHeader { media_type: media_type.into(), size: Some(data.len() as u64), sha256: Some(sha256(&data)) };
        let mut reach = Reachability::new(self.reconnect_timeout);
        loop {
            let first = Part::Header(header.clone());
            let data = Arc::clone(&data);
            let chunks = (0..data.len())
                .step_by(CHUNK_BYTES)
                .map(move |start| Part::Chunk(data[start..data.len().min(start + CHUNK_BYTES)].to_vec()));
            let parts = std::iter::once(first).chain(chunks).map(|part| UploadArtifactRequest { part: Some(part) });
            match self.stub().upload_artifact(stream::iter(parts)).await {
                Ok(answer) => return Ok(answer.into_inner().artifact.unwrap_or_default()),
                Err(status) => reach.wait(status.into()).await?,
            }
        }
    }

    /// The bytes of an artifact. After a lost connection it goes on at the last byte.
    ///
    /// # Errors
    ///
    /// There is no such artifact, the call has failed, or the bytes do not have the SHA-256 that the server tells
    /// ([`Code::DataLoss`]).
    pub async fn download(&self, artifact_id: &str) -> Result<Vec<u8>, Error> {
        self.limit(self.receive_all(artifact_id)).await
    }

    async fn receive_all(&self, artifact_id: &str) -> Result<Vec<u8>, Error> {
        let mut data = Vec::new();
        let mut artifact = Artifact::default();
        let mut reach = Reachability::new(self.reconnect_timeout);
        while let Err(error) = self.receive(artifact_id, &mut artifact, &mut data, &mut reach).await {
            reach.wait(error).await?;
        }
        if sha256(&data) != artifact.sha256 {
            return Err(Error::new(Code::DataLoss, format!("the bytes of artifact {artifact_id} are damaged")));
        }
        Ok(data)
    }

    async fn receive(
        &self,
        artifact_id: &str,
        artifact: &mut Artifact,
        data: &mut Vec<u8>,
        reach: &mut Reachability,
    ) -> Result<(), Error> {
        let request = DownloadArtifactRequest { artifact_id: artifact_id.into(), offset: data.len() as u64 };
        let mut messages = self.stub().download_artifact(request).await?.into_inner();
        while let Some(message) = messages.message().await? {
            reach.answered();
            match message.part {
                Some(Received::Artifact(found)) => *artifact = found,
                Some(Received::Chunk(chunk)) => data.extend(chunk),
                None => {}
            }
        }
        Ok(())
    }
}

fn sha256(data: &[u8]) -> String {
    digest(&SHA256, data).as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn files_keep_to_the_timeout_of_the_client() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // takes connections, and answers nothing
        let address = format!("http://{}", silent.local_addr().unwrap());
        let client = Client::builder(address).connect().unwrap().with_timeout(Duration::from_millis(50));
        assert_eq!(client.upload([0; 10], "image/png").await.unwrap_err().code, Code::DeadlineExceeded);
        assert_eq!(client.download("a").await.unwrap_err().code, Code::DeadlineExceeded);
    }
}
