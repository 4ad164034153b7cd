//! Where the API server is: flags, environment and what is remembered in; the servers to try, in order, out. Pure.
//!
//! The ClusterIP of the `kubernetes` Service comes last, and with a warning: on this node it leads through what the
//! agent itself programs.

use std::net::SocketAddr;

/// The name in every API server's certificate, whatever address it is reached by.
pub(super) const CLUSTER_NAME: &str = "kubernetes.default.svc";

/// What is known of where the API server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// --api-server
    pub flag: Option<String>,
    /// There is a kubeconfig, which names a server.
    pub kubeconfig: bool,
    /// MESH_AGENT_API_SERVER
    pub variable: Option<String>,
    /// The endpoints of the `kubernetes` Service that an earlier run remembered.
    pub remembered: Vec<SocketAddr>,
    /// KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT
    pub cluster_ip: Option<(String, String)>,
}

/// A server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// At this URL.
    Url(String),
    /// The kubeconfig's.
    Kubeconfig,
}

/// The servers to try, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// Never empty.
    pub servers: Vec<Server>,
    /// What the user should know of the choice.
    pub warning: Option<String>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "MESH130 no API server is known: give --api-server, --kubeconfig or MESH_AGENT_API_SERVER, or run it in a Pod"
)]
pub struct NoServer;

/// The first that is known counts.
pub(super) fn choose(known: &Known) -> Result<Servers, NoServer> {
    let one = |server| Servers {
        servers: vec![server],
        warning: None,
    };
    let given = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(url);
    if let Some(url) = given(&known.flag) {
        return Ok(one(Server::Url(url)));
    }
    if known.kubeconfig {
        return Ok(one(Server::Kubeconfig));
    }
    if let Some(url) = given(&known.variable) {
        return Ok(one(Server::Url(url)));
    }
    let remembered = known.remembered.iter();
    let mut servers: Vec<Server> = remembered
        .map(|address| Server::Url(format!("https://{address}")))
        .collect();
    let mut warning = None;
    if let Some((host, port)) = &known.cluster_ip {
        if servers.is_empty() {
            warning = Some(through_cluster_ip(host));
        }
        servers.push(Server::Url(of_host(host, port)));
    }
    if servers.is_empty() {
        return Err(NoServer);
    }
    Ok(Servers { servers, warning })
}

fn through_cluster_ip(host: &str) -> String {
    format!(
        "the API server is reached by its ClusterIP {host}, which this agent itself is to provide: after a restart of the \
         node nobody does; set api-server in the ConfigMap mesh-agent, or --api-server"
    )
}

/// As people write it: with or without scheme.
fn url(text: &str) -> String {
    if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    }
}

fn of_host(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Known {
        Known {
            flag: Some("https://flag:1".to_owned()),
            kubeconfig: true,
            variable: Some("variable:2".to_owned()),
            remembered: vec![
                "192.0.2.1:6443".parse().unwrap(),
                "[2001:db8::1]:6443".parse().unwrap(),
            ],
            cluster_ip: Some(("10.96.0.1".to_owned(), "443".to_owned())),
        }
    }

    fn urls(known: &Known) -> Vec<String> {
        let servers = choose(known).unwrap().servers;
        let name = |server: Server| match server {
            Server::Url(url) => url,
            Server::Kubeconfig => "kubeconfig".to_owned(),
        };
        servers.into_iter().map(name).collect()
    }

    #[test]
    fn the_order_is_that_of_the_design() {
        let mut known = all();
        assert_eq!(urls(&known), ["https://flag:1"]);
        known.flag = None;
        assert_eq!(urls(&known), ["kubeconfig"]);
        known.kubeconfig = false;
        assert_eq!(urls(&known), ["https://variable:2"]);
        // An empty key of a ConfigMap is no address.
        known.variable = Some(String::new());
        let remembered = [
            "https://192.0.2.1:6443",
            "https://[2001:db8::1]:6443",
            "https://10.96.0.1:443",
        ];
        assert_eq!(urls(&known), remembered);
        assert_eq!(choose(&known).unwrap().warning, None);
        known.remembered.clear();
        assert_eq!(urls(&known), ["https://10.96.0.1:443"]);
        assert!(
            choose(&known)
                .unwrap()
                .warning
                .is_some_and(|it| it.contains("10.96.0.1"))
        );
        known.cluster_ip = Some(("fd00:10:96::1".to_owned(), "443".to_owned()));
        assert_eq!(urls(&known), ["https://[fd00:10:96::1]:443"]);
        known.cluster_ip = None;
        assert_eq!(choose(&known), Err(NoServer));
    }
}
