//! The API server's own addresses, kept in the run directory: after a restart of the node they are known before any
//! Service works.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    admin::run_dir::{API_SERVERS, replace},
    model::EndpointSlice,
};

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    addresses: Vec<SocketAddr>,
}

impl Remembered {
    /// What an earlier run left; nothing if that cannot be read.
    pub(super) fn read(run_dir: &Path) -> Self {
        let path = run_dir.join(API_SERVERS);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let addresses = text.lines().filter_map(|line| line.parse().ok()).collect();
        Self { path, addresses }
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Writes down the endpoints of the `kubernetes` Service if they are others than before.
    pub(super) fn note(&mut self, slice: &EndpointSlice) {
        let addresses = addresses(slice);
        if addresses.is_empty() || addresses == self.addresses {
            return;
        }
        match self.write(&addresses) {
            Ok(()) => self.addresses = addresses,
            Err(error) => tracing::warn!(
                %error,
                path = %self.path.display(),
                "the API server's addresses cannot be remembered"
            ),
        }
    }

    fn write(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        let lines: String = addresses
            .iter()
            .map(|address| format!("{address}\n"))
            .collect();
        replace(&self.path, &lines)
    }
}

/// In an order that does not depend on the API server's.
fn addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let Some(port) = slice.ports.first() else {
        return Vec::new();
    };
    let endpoints = slice.endpoints.iter();
    let mut addresses: Vec<SocketAddr> = endpoints
        .map(|endpoint| SocketAddr::new(endpoint.address, port.port))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, ObjectName, Protocol, SlicePort};

    fn slice(addresses: &[&str]) -> EndpointSlice {
        let endpoint = |text: &&str| Endpoint {
            address: text.parse().unwrap(),
            pod: None,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            hints: None,
        };
        EndpointSlice {
            name: ObjectName::new("default", "kubernetes"),
            service: Some("kubernetes".into()),
            ports: vec![SlicePort {
                name: "https".into(),
                protocol: Protocol::Tcp,
                port: 6443,
            }],
            endpoints: addresses.iter().map(endpoint).collect(),
            triggered: None,
        }
    }

    #[test]
    fn addresses_outlive_the_agent_and_an_empty_slice() {
        let directory =
            std::env::temp_dir().join(format!("mesh-agent-remembered-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut remembered = Remembered::read(&directory);
        assert!(remembered.addresses().is_empty());
        remembered.note(&slice(&["192.0.2.2", "192.0.2.1"]));
        remembered.note(&slice(&[]));
        let again = Remembered::read(&directory);
        let wanted: Vec<SocketAddr> = vec![
            "192.0.2.1:6443".parse().unwrap(),
            "192.0.2.2:6443".parse().unwrap(),
        ];
        assert_eq!(again.addresses(), wanted);
        fs::remove_dir_all(&directory).unwrap();
    }
}
