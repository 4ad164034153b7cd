//! The commands' side of the admin socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::telemetry::Document;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers at {path}: {source}. Does one run here with this --run-dir?")]
    NoAgent {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("the agent at {path} did not answer within {} s: is it stopped?", TIMEOUT.as_secs())]
    Timeout {
        /// The socket.
        path: String,
    },
    /// The conversation broke.
    #[error("the agent's answer broke off: {0}. See its log")]
    Http(#[from] hyper::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It speaks another version.
    #[error(
        "the agent's answer is not what this binary expects: {0}. Are both of the same version?"
    )]
    Answer(#[from] serde_json::Error),
}

/// The admin socket of one agent.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Of the agent with this run dir.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join("agent.sock"),
        }
    }

    /// GET, as a document.
    ///
    /// # Errors
    /// No agent, no answer, or one that says no.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.request(Method::GET, path, Bytes::new()).await?;
        let document: Document<T> = serde_json::from_slice(&body)?;
        Ok(document.body)
    }

    /// PUT.
    ///
    /// # Errors
    /// As `get`.
    pub async fn put(&self, path: &str, body: &str) -> Result<(), ClientError> {
        self.request(Method::PUT, path, Bytes::copy_from_slice(body.as_bytes()))
            .await
            .map(drop)
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let exchange = self.exchange(method, path, body);
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout {
                path: self.path.display().to_string(),
            }),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| ClientError::NoAgent {
                    path: self.path.display().to_string(),
                    source,
                })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|_| ClientError::Refused(format!("{path} is no name")))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(ClientError::Refused(
            String::from_utf8_lossy(&body).trim_end().to_owned(),
        ))
    }
}
