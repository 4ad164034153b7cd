//! Traffic: what to send, and the process that sends it.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};

use crate::{harness::eventually, process::Process, traffic::Report};

/// What to send: arguments of the traffic tool.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) arguments: Vec<String>,
}

impl Call {
    fn new(verb: &str, to: SocketAddr) -> Self {
        let to = to.to_string();
        Self {
            arguments: vec![verb.to_owned(), "--to".to_owned(), to],
        }
    }

    /// Any verb of the tool, to an address or a name and a port: for Pods, which look names up themselves.
    #[must_use]
    pub fn to_host(verb: &str, to: &str) -> Self {
        Self {
            arguments: vec![verb.to_owned(), "--to".to_owned(), to.to_owned()],
        }
    }

    /// Connections, one after the other, each of which reads who answers.
    #[must_use]
    pub fn connect(to: SocketAddr) -> Self {
        Self::new("connect", to)
    }

    /// Connections that are kept open and asked now and then.
    #[must_use]
    pub fn hold(to: SocketAddr) -> Self {
        Self::new("hold", to)
    }

    /// So many connections that say nothing and wait to be told that they are lost; when is a sample.
    #[must_use]
    pub fn lose(to: SocketAddr, connections: usize) -> Self {
        let call = Self::new("lose", to).flag("--samples");
        call.option("--connections", connections)
    }

    /// Requests and responses over one connection.
    #[must_use]
    pub fn rr(to: SocketAddr) -> Self {
        Self::new("rr", to)
    }

    /// Connect, request, response, close.
    #[must_use]
    pub fn crr(to: SocketAddr) -> Self {
        Self::new("crr", to)
    }

    /// As many bytes as go through one connection.
    #[must_use]
    pub fn stream(to: SocketAddr) -> Self {
        Self::new("stream", to)
    }

    /// Connections that are asked for, from addresses that are nobody's, and never made.
    #[must_use]
    pub fn flood(to: SocketAddr) -> Self {
        Self::new("flood", to)
    }

    /// Another one to call, in turn with those before.
    #[must_use]
    pub fn also(self, to: SocketAddr) -> Self {
        self.option("--to", to)
    }

    /// Any flag of the tool.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// Any option of the tool.
    #[must_use]
    pub fn option(mut self, option: &str, value: impl ToString) -> Self {
        self.arguments.push(option.to_owned());
        self.arguments.push(value.to_string());
        self
    }

    /// How many.
    #[must_use]
    pub fn count(self, count: u64) -> Self {
        self.option("--count", count)
    }

    /// How many a second at most.
    #[must_use]
    pub fn rate(self, rate: u64) -> Self {
        self.option("--rate", rate)
    }

    /// By connected UDP sockets.
    #[must_use]
    pub fn udp(self) -> Self {
        self.option("--protocol", "udp")
    }

    /// By UDP sockets that are not connected (sendto and recvfrom), one for each datagram.
    #[must_use]
    pub fn unconnected(self) -> Self {
        self.option("--protocol", "udp-unconnected")
    }

    /// By AF_INET6 sockets, IPv4 written as ::ffff:a.b.c.d.
    #[must_use]
    pub fn mapped(self) -> Self {
        self.flag("--mapped")
    }

    /// An answer whose name does not begin so is misdirected.
    #[must_use]
    pub fn expect(self, prefix: &str) -> Self {
        self.option("--expect", prefix)
    }
}

/// Traffic in the background.
#[derive(Debug)]
pub struct Load(pub(crate) Process);

impl Load {
    /// Waits until all connections of a `hold` are open.
    pub fn holding(self) -> Result<Self> {
        eventually("the connections are open", || {
            ensure!(self.0.said().contains("holding"), "still opening");
            Ok(())
        })?;
        Ok(self)
    }

    /// Ends the traffic and says what became of it.
    pub fn stop(mut self) -> Result<Report> {
        self.0.close_input();
        self.report()
    }

    /// kill -9 in the middle of it.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()
    }

    /// Waits until the traffic ends by itself.
    pub fn report(mut self) -> Result<Report> {
        let text = self.0.output()?;
        let status = self.0.wait()?;
        if !status.success() {
            bail!("traffic failed ({status}): {}", self.0.said());
        }
        serde_json::from_str(&text).with_context(|| format!("traffic said {text:?}"))
    }
}
