//! GET over a TCP connection of the calling thread's network namespace, with HTTP/1.0: one answer, then the end.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub headers: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(super) fn get(address: SocketAddr, path: &str, accept: Option<&str>) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("nobody answers at {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let accept = accept.map_or_else(String::new, |value| format!("Accept: {value}\r\n"));
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\n{accept}Connection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).with_context(|| format!("{address} answered {answer:?}"))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (status, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    Some(Response {
        status: status.split(' ').nth(1)?.parse().ok()?,
        headers: headers.to_owned(),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = parse("HTTP/1.0 503 Busy\r\nContent-Type: text/plain\r\n\r\nno\n").unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.body, "no\n");
    }
}
