//! The real kube-proxy on a node, as the yardstick of what users and their tools see. It is the control plane's binary.

use anyhow::{Context, Result, bail, ensure};

use crate::{
    control_plane::control_plane_binary, harness::eventually, lab::Node,
    legacy_iptables::legacy_iptables, process::Process,
};

/// How it programs the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// nftables
    Nftables,
    /// iptables
    Iptables,
    /// iptables, by the programs whose rules nftables does not show.
    LegacyIptables,
}

impl ProxyMode {
    /// As its flag has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables | Self::LegacyIptables => "iptables",
        }
    }
}

/// A kube-proxy on a node. Dropping it kills it; its rules go with the node.
#[derive(Debug)]
pub struct KubeProxy {
    process: Process,
    node: Node,
    metrics: u16,
}

impl KubeProxy {
    /// Starts one and waits until it has programmed what there is. The node must run no agent: both want the same ports.
    pub fn start(node: &Node, mode: ProxyMode) -> Result<Self> {
        // Whose traffic is local does not matter to what it serves over HTTP.
        Self::with(
            node,
            mode,
            "10.244.0.0/16",
            ["0.0.0.0:10256", "127.0.0.1:10249"],
        )
    }

    /// The same with ports of its own, on a node where an agent may run, in a lab whose Pods it knows for local.
    pub fn beside(node: &Node, mode: ProxyMode) -> Result<Self> {
        let pods = "10.0.0.0/10,fd00:10::/32";
        Self::with(node, mode, pods, ["0.0.0.0:10356", "127.0.0.1:10349"])
    }

    fn with(
        node: &Node,
        mode: ProxyMode,
        pods: &str,
        [health, metrics]: [&str; 2],
    ) -> Result<Self> {
        let binary = control_plane_binary()?;
        let kubeconfig = node.kubeconfig().context("there is no API server")?;
        let kubeconfig = kubeconfig.display().to_string();
        let path = match mode {
            ProxyMode::LegacyIptables => legacy_iptables(&node.host().file("legacy-iptables"))?,
            ProxyMode::Nftables | ProxyMode::Iptables => "--".to_owned(),
        };
        let binary = binary.display().to_string();
        let arguments = [
            &path,
            &binary,
            "kube-proxy",
            "--kubeconfig",
            &kubeconfig,
            "--hostname-override",
            node.name(),
            "--proxy-mode",
            mode.name(),
            "--cluster-cidr",
            pods,
            "--healthz-bind-address",
            health,
            "--metrics-bind-address",
            metrics,
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
            process: node.host().spawn(&title, "env".as_ref(), arguments)?,
            node: node.clone(),
            metrics: metrics.parse::<std::net::SocketAddr>()?.port(),
        };
        proxy.wait_synced()?;
        Ok(proxy)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Result<bool> {
        self.process.runs()
    }

    /// Ends it as a kubelet does: its rules stay.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop().map(drop)
    }

    fn wait_synced(&mut self) -> Result<()> {
        let synced = eventually("kube-proxy has programmed what there is", || {
            if !self.process.runs()? {
                return Ok(false);
            }
            let metrics = self.node.get(self.metrics, "/metrics")?.body;
            let name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{";
            let last = metrics.lines().filter(|line| line.starts_with(name));
            // Each family is programmed by itself, and shows once it is.
            ensure!(
                last.filter(|line| !line.ends_with(" 0")).count() == 2,
                "it has not programmed both families"
            );
            Ok(true)
        })?;
        if !synced {
            bail!("kube-proxy ended:\n{}", self.process.said());
        }
        Ok(())
    }
}
