//! The real kube-proxy on a node, as the yardstick of what users and their tools see. It is the control plane's binary.

use anyhow::{Context, Result, bail, ensure};

use crate::{
    control_plane::control_plane_binary, harness::eventually, lab::Node, process::Process,
};

/// How it programs the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// nftables
    Nftables,
    /// iptables
    Iptables,
}

impl ProxyMode {
    /// As its flag has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// A kube-proxy on a node. Dropping it kills it; its rules go with the node.
#[derive(Debug)]
pub struct KubeProxy {
    process: Process,
    node: Node,
}

impl KubeProxy {
    /// Starts one and waits until it has programmed what there is. The node must run no agent: both want the same ports.
    pub fn start(node: &Node, mode: ProxyMode) -> Result<Self> {
        // Whose traffic is local does not matter to what it serves over HTTP.
        Self::start_with(node, mode, ["--cluster-cidr", "10.244.0.0/16"])
    }

    /// The same, and it knows the node's pods by their links.
    pub fn start_with_pods(node: &Node, mode: ProxyMode) -> Result<Self> {
        let by_links = [
            "--detect-local-mode=InterfaceNamePrefix",
            "--pod-interface-name-prefix=veth",
        ];
        Self::start_with(node, mode, by_links)
    }

    fn start_with(node: &Node, mode: ProxyMode, local: [&str; 2]) -> Result<Self> {
        let binary = control_plane_binary()?;
        let kubeconfig = node.kubeconfig().context("there is no API server")?;
        let kubeconfig = kubeconfig.display().to_string();
        let arguments = [
            "kube-proxy",
            "--kubeconfig",
            &kubeconfig,
            "--hostname-override",
            node.name(),
            "--proxy-mode",
            mode.name(),
            local[0],
            local[1],
            // Limits of the whole host are none of a node's business here.
            "--conntrack-max-per-core",
            "0",
            "--conntrack-tcp-timeout-established",
            "0",
            "--conntrack-tcp-timeout-close-wait",
            "0",
        ];
        let title = format!("kube-proxy-{}", node.name());
        let mut proxy = Self {
            process: node.host().spawn(&title, &binary, arguments)?,
            node: node.clone(),
        };
        proxy.wait_synced()?;
        Ok(proxy)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        self.process.runs()
    }

    fn wait_synced(&mut self) -> Result<()> {
        let synced = eventually("kube-proxy has programmed what there is", || {
            if !self.process.runs()? {
                return Ok(false);
            }
            let metrics = self.node.get(10249, "/metrics")?.body;
            let name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{";
            let last = metrics.lines().filter(|line| line.starts_with(name));
            // Each family is programmed by itself.
            let programmed = last.filter(|line| !line.ends_with(" 0")).count();
            ensure!(
                programmed >= self.node.address().all().count(),
                "it has not programmed every family"
            );
            Ok(true)
        })?;
        if !synced {
            bail!("kube-proxy ended:\n{}", self.process.said());
        }
        Ok(())
    }
}
