//! The health checks of Services: a small server a Service and family, on its healthCheckNodePort, that tells load
//! balancers whether this node has endpoints of it. Status, headers and body are those of kube-proxy 1.36
//! (pkg/proxy/healthcheck/service_health.go).

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::{runtime, sync::watch};

use super::http::{self, Reply, Routes};
use crate::{model::ObjectName, telemetry::Introspect};

/// What load balancers that weigh nodes go by.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// Go's net package asks for as many as the kernel allows; more than this never wait.
const BACKLOG: i32 = 128;

/// Starts health check servers on the thread of the others.
#[derive(Clone)]
pub struct HealthServers {
    runtime: runtime::Handle,
    introspect: Arc<dyn Introspect>,
}

impl std::fmt::Debug for HealthServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthServers").finish_non_exhaustive()
    }
}

/// A Service's server of one family. Dropping it frees its port.
#[derive(Debug)]
pub struct HealthServer {
    local: Arc<AtomicUsize>,
    _stop: watch::Sender<bool>,
}

impl HealthServer {
    /// How many ready endpoints of the Service this node has now.
    pub fn set_local(&self, count: usize) {
        self.local.store(count, Ordering::Relaxed);
    }
}

impl HealthServers {
    pub(super) fn new(runtime: runtime::Handle, introspect: Arc<dyn Introspect>) -> Self {
        Self {
            runtime,
            introspect,
        }
    }

    /// Answers for a Service on a port of these addresses, which are of one family: on all of them or on none.
    ///
    /// # Errors
    /// If it cannot listen on one.
    pub fn start(
        &self,
        name: &ObjectName,
        addresses: &[IpAddr],
        port: u16,
    ) -> io::Result<HealthServer> {
        let listeners = addresses.iter().map(|ip| listener((*ip, port).into()));
        let listeners: Vec<TcpListener> = listeners.collect::<io::Result<_>>()?;
        let local = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = watch::channel(false);
        let routes: Routes = {
            let (name, local) = (name.clone(), Arc::clone(&local));
            let introspect = Arc::clone(&self.introspect);
            Arc::new(move |_| {
                let local = local.load(Ordering::Relaxed);
                answer(&name, local, introspect.health().healthy)
            })
        };
        let _entered = self.runtime.enter();
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let serving = http::serve(listener, Arc::clone(&routes), stopped.clone());
            self.runtime.spawn(serving);
        }
        Ok(HealthServer { local, _stop: stop })
    }
}

/// Of its family alone: the other one has a server of its own at the same port.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own: OwnedFd = socket(family, SockType::Stream, flags, None)?;
    // A restart must not wait for the connections of before to be forgotten.
    setsockopt(&own, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&own, sockopt::Ipv6V6Only, &true)?;
    }
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&own),
        &SockaddrStorage::from(address),
    )?;
    listen(&own, Backlog::new(BACKLOG)?)?;
    Ok(own.into())
}

fn answer(name: &ObjectName, local: usize, healthy: bool) -> Reply {
    let status = if local > 0 && healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {healthy}\n}}",
        name.namespace, name.name
    );
    Reply {
        status,
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (WEIGHT, HeaderValue::from(local)),
        ],
        body: body.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_with_an_endpoint_and_a_healthy_agent() {
        let name = ObjectName::new("shop", "web");
        let status = |local, healthy| answer(&name, local, healthy).status.as_u16();
        assert_eq!(
            (status(2, true), status(0, true), status(2, false)),
            (200, 503, 503)
        );
        let reply = answer(&name, 2, true);
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let wanted = serde_json::json!({
            "service": {"namespace": "shop", "name": "web"},
            "localEndpoints": 2,
            "serviceProxyHealthy": true,
        });
        assert_eq!(body, wanted);
        assert_eq!(reply.headers[2].1, "2");
    }
}
