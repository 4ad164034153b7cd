//! Both ends of TLS: the API server's own certificate towards clients, the throw-away authority towards the server.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::control_plane::ControlPlane;

/// The API server, and how to be it and how to call it.
pub(super) struct Upstream {
    /// Where it is.
    pub(super) server: SocketAddr,
    /// Speaks as it does.
    pub(super) acceptor: TlsAcceptor,
    admin: TlsConnector,
    nobody: TlsConnector,
}

impl Upstream {
    pub(super) fn new(control_plane: &ControlPlane, server: SocketAddr) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let (certificate, key) = control_plane.serving_pair();
        let mut serving = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates(certificate)?, private_key(key)?)?;
        serving.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        for certificate in certificates(control_plane.ca())? {
            roots.add(certificate)?;
        }
        let (certificate, key) = control_plane.admin_pair();
        let admin = calling(&provider, &roots)?
            .with_client_auth_cert(certificates(&certificate)?, private_key(&key)?)?;
        let nobody = calling(&provider, &roots)?.with_no_client_auth();
        Ok(Self {
            server,
            acceptor: Arc::new(serving).into(),
            admin: Arc::new(admin).into(),
            nobody: Arc::new(nobody).into(),
        })
    }

    /// Calls the server, as the administrator or as nobody in particular.
    pub(super) async fn connect(&self, admin: bool) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.server).await?;
        let connector = if admin { &self.admin } else { &self.nobody };
        let name = ServerName::IpAddress(self.server.ip().into());
        Ok(connector.connect(name, stream).await?)
    }
}

type Calling = tokio_rustls::rustls::ConfigBuilder<
    ClientConfig,
    tokio_rustls::rustls::client::WantsClientCert,
>;

fn calling(provider: &Arc<CryptoProvider>, roots: &RootCertStore) -> Result<Calling> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("no certificate in {}", path.display()))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("no key in {}", path.display()))
}
