//! From a server to try to a client that can be asked.

use std::{path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    address::{CLUSTER_NAME, Server},
    link::{Links, Listen},
};

/// A server that does not take a connection in this time is tried again later.
const CONNECT: Duration = Duration::from_secs(5);
/// A watch has a bookmark a minute; a connection without a byte for longer is dead.
const READ: Duration = Duration::from_secs(90);

/// Where a Pod finds what its service account may show.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Who the agent is to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// As a kubeconfig says.
    Kubeconfig(PathBuf),
    /// The service account of the Pod it runs in.
    ServiceAccount,
}

/// Why there is no client. What is wrong may be mended while the agent runs.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig.
    #[error("MESH131 --kubeconfig {path:?}: {source}; mend it, or give another")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The service account's files.
    #[error(
        "MESH132 {SERVICE_ACCOUNT}: {0}; run it in a Pod with a service account, or give --kubeconfig"
    )]
    ServiceAccount(#[source] Box<kube::config::InClusterError>),
    /// An address that is none.
    #[error("MESH133 {url:?} is no URL of an API server: {source}; write https://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
        /// Why.
        source: hyper::http::uri::InvalidUri,
    },
    /// Certificates or keys that cannot be used.
    #[error(
        "MESH134 no client can be made: {0}; look at the certificates and keys of the kubeconfig"
    )]
    Client(#[source] Box<kube::Error>),
}

/// A client for one server; nothing is asked yet.
pub(super) async fn client(
    server: &Server,
    identity: &Identity,
    links: &Links,
) -> Result<Client, ConnectError> {
    let mut config = config(identity).await?;
    if let Server::Url(url) = server {
        config.cluster_url = url.parse().map_err(|source| ConnectError::Url {
            url: url.clone(),
            source,
        })?;
        if *identity == Identity::ServiceAccount {
            config.tls_server_name = Some(CLUSTER_NAME.to_owned());
        }
    }
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.reset_reader_on_write = true;
    // The watches wait by themselves, and say so.
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config);
    let builder = builder.map_err(|error| ConnectError::Client(Box::new(error)))?;
    Ok(builder.with_layer(&Listen(links.clone())).build())
}

async fn config(identity: &Identity) -> Result<Config, ConnectError> {
    let Identity::Kubeconfig(path) = identity else {
        return Config::incluster_env()
            .or_else(|_| Config::incluster_dns())
            .map_err(|error| ConnectError::ServiceAccount(Box::new(error)));
    };
    let wrong = |source| ConnectError::Kubeconfig {
        path: path.clone(),
        source: Box::new(source),
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(wrong)
}

/// Whether this process runs in a Pod that has a service account.
#[must_use]
pub fn has_service_account() -> bool {
    std::path::Path::new(SERVICE_ACCOUNT).join("token").exists()
}
