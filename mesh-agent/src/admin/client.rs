//! The commands' side of the admin socket: one request, one answer, plain errors when no agent is there.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{config, telemetry::view::ErrorView};

/// A status of 10,000 Services takes the agent a moment.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A socket's timeout cannot be nothing.
const SHORTEST: Duration = Duration::from_millis(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no agent answers at {socket:?} ({source}); start one with `mesh-agent run`, or name its directory with \
         --run-dir"
    )]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket is root's.
    #[error("{socket:?} is for root alone; run the command as root")]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error(
        "the agent at {socket:?} went away while it answered ({source}); try again, or look at its log"
    )]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the agent said.
        message: String,
    },
    /// The answer makes no sense.
    #[error(
        "the answer of the agent at {socket:?} cannot be read ({reason}); is the agent of another version? \
         `mesh-agent version` says which this one is"
    )]
    Unreadable {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks the agent of a run directory.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// The agent of this run directory.
    #[must_use]
    pub fn new(run_dir: &Path) -> Self {
        Self {
            socket: config::socket_path(run_dir),
            timeout: TIMEOUT,
        }
    }

    /// The same, and no answer takes longer than this.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self {
            socket: self.socket.clone(),
            timeout: time.clamp(SHORTEST, TIMEOUT),
        }
    }

    /// GET.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, &[])
    }

    /// PUT.
    pub fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(document).map_err(|error| self.unreadable(error))?;
        self.ask("PUT", path, &body)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let stream = UnixStream::connect(&self.socket).map_err(|error| self.no_agent(error))?;
        let answer = exchange(stream, self.timeout, method, path, body).map_err(|source| {
            ClientError::Broken {
                socket: self.socket.clone(),
                source,
            }
        })?;
        let (status, body) =
            parse(&answer).ok_or_else(|| self.unreadable("it is no HTTP answer"))?;
        if status != 200 {
            return Err(ClientError::Refused {
                status,
                message: refusal(status, body),
            });
        }
        serde_json::from_slice(body).map_err(|error| self.unreadable(error))
    }

    fn no_agent(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return ClientError::Denied { socket };
        }
        ClientError::NoAgent { socket, source }
    }

    fn unreadable(&self, reason: impl ToString) -> ClientError {
        ClientError::Unreadable {
            socket: self.socket.clone(),
            reason: reason.to_string(),
        }
    }
}

/// The whole answer; the server closes the connection after it.
fn exchange(
    mut stream: UnixStream,
    time: Duration,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: mesh-agent\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body. The agent sends whole bodies, never chunks; one shorter than announced is none.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length: usize = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })?;
    let body = answer.get(end + 4..)?;
    (body.len() == length).then_some((status, body))
}

fn refusal(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorView>(body) {
        Ok(error) => error.message,
        Err(_) => format!(
            "the agent answered {status}: {}",
            String::from_utf8_lossy(body).trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let whole = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        assert_eq!(parse(whole), Some((404, b"no".as_slice())));
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\n\r\nx",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nx",
            "nonsense\r\n\r\n",
        ] {
            assert_eq!(parse(broken.as_bytes()), None, "{broken:?}");
        }
    }
}
