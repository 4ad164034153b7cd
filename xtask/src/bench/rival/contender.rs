//! Who is compared, and how each is started on its node, found ready, and taken away again.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{Agent, AgentOptions, Call, Metrics, Node, Process, legacy_iptables};

use super::{
    objects,
    world::{Seat, World},
};

/// A Service or an agent that is not yet there fails at once or in this time.
const TRY: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(in crate::bench) enum Contender {
    /// mesh-agent
    Agent,
    /// kube-proxy in iptables mode
    Iptables,
    /// kube-proxy in nftables mode
    Nftables,
}

impl Contender {
    pub(in crate::bench) const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }

    /// As tables call it.
    pub(in crate::bench) const fn title(self) -> &'static str {
        match self {
            Self::Agent => "mesh-agent",
            Self::Iptables => "kube-proxy iptables",
            Self::Nftables => "kube-proxy nftables",
        }
    }
}

/// The binaries.
pub(in crate::bench) struct Programs {
    pub(in crate::bench) agent: PathBuf,
    pub(super) control_plane: PathBuf,
    /// A PATH, as `env` takes it, where `iptables` is the legacy one.
    pub(super) path: String,
}

impl Programs {
    pub(in crate::bench) fn new(
        agent: PathBuf,
        control_plane: PathBuf,
        files: &Path,
    ) -> Result<Self> {
        let path = legacy_iptables(&files.join("legacy"))?;
        Ok(Self {
            agent,
            control_plane,
            path,
        })
    }
}

/// A contender that runs. It is killed when dropped.
pub(super) enum Running {
    Agent(Agent),
    KubeProxy(Process),
}

/// How long a start took.
#[derive(Clone, Copy)]
pub(super) struct Start {
    /// From exec until first, middle and last of the real Services answer.
    pub(super) answers: Duration,
    /// Until it says of itself that it has programmed everything, too.
    pub(super) ready: Duration,
}

impl Running {
    /// Starts it and waits until it works, or until the limit is over: then there is none.
    pub(super) fn start(
        world: &mut World,
        seat: usize,
        programs: &Programs,
        limit: Duration,
    ) -> Result<Option<(Self, Start)>> {
        let kubeconfig = world.kubeconfig()?;
        let seat = &world.seats[seat];
        let begin = Instant::now();
        let running = match seat.contender {
            Contender::Agent => Self::Agent(agent(world, seat, programs)?),
            Contender::Iptables | Contender::Nftables => {
                let files = world.files();
                Self::KubeProxy(kube_proxy(
                    &seat.node,
                    seat.contender,
                    programs,
                    (files, &kubeconfig),
                )?)
            }
        };
        let mut ready = None;
        let mut answers = None;
        while begin.elapsed() < limit {
            if answers.is_none() && all_answer(world, seat)? {
                answers = Some(begin.elapsed());
            }
            if ready.is_none() && running.is_ready(seat) {
                ready = Some(begin.elapsed());
            }
            if let (Some(answers), Some(ready)) = (answers, ready) {
                let ready = ready.max(answers);
                return Ok(Some((running, Start { answers, ready })));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        running.stop(seat, programs)?;
        Ok(None)
    }

    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Agent(agent) => agent.pid(),
            Self::KubeProxy(process) => process.pid(),
        }
    }

    /// The agent's own metrics.
    pub(super) fn metrics(&self) -> Option<Metrics> {
        match self {
            Self::Agent(agent) => agent.metrics().ok(),
            Self::KubeProxy(_) => None,
        }
    }

    fn is_ready(&self, seat: &Seat) -> bool {
        match self {
            Self::Agent(agent) => agent.health("/readyz").is_ok_and(|it| it.status == 200),
            Self::KubeProxy(_) => scrape(seat).is_ok_and(|metrics| {
                metrics.sum("kubeproxy_sync_proxy_rules_last_timestamp_seconds", &[]) > 0.0
            }),
        }
    }

    /// Ends it and takes away all that it has programmed.
    pub(super) fn stop(self, seat: &Seat, programs: &Programs) -> Result<()> {
        match self {
            Self::Agent(mut agent) => {
                agent.terminate()?;
                agent.cli(&["cleanup"])?.ok()?;
            }
            Self::KubeProxy(mut process) => {
                process.kill()?;
                flush(seat, programs)?;
            }
        }
        Ok(())
    }
}

fn agent(world: &World, seat: &Seat, programs: &Programs) -> Result<Agent> {
    let mut options = AgentOptions::binary(&programs.agent);
    // More endpoints than the default has room for.
    let backends = world.services * (objects::ENDPOINTS + 1);
    if backends > 262_144 {
        let flags = ["--max-backends".to_owned(), (backends * 2).to_string()];
        options.flags.extend(flags);
    }
    seat.node.start_agent(&options)
}

/// Starts kube-proxy on a node, with a directory for its file and whom to ask.
pub(in crate::bench) fn kube_proxy(
    node: &Node,
    contender: Contender,
    programs: &Programs,
    (files, kubeconfig): (&Path, &Path),
) -> Result<Process> {
    let name = contender.name();
    let config = files.join(format!("{name}.yaml"));
    // Conntrack's limits belong to the machine, not to the node's namespace; the rest is kube-proxy's own default.
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: {name}\nhostnameOverride: {}\n\
         clientConnection: {{kubeconfig: {}}}\ndetectLocalMode: InterfaceNamePrefix\n\
         detectLocal: {{interfaceNamePrefix: veth}}\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n",
        node.name(),
        kubeconfig.display()
    );
    fs::write(&config, text)?;
    let control_plane = programs.control_plane.display().to_string();
    let config = config.display().to_string();
    let arguments = [
        programs.path.as_str(),
        &control_plane,
        "kube-proxy",
        "--config",
        &config,
    ];
    node.host().spawn(
        &format!("kube-proxy-{name}"),
        Path::new("/usr/bin/env"),
        arguments,
    )
}

/// Everything in the namespace that packets can meet: it is the contender's alone.
fn flush(seat: &Seat, programs: &Programs) -> Result<()> {
    let script = "iptables-restore <<END\n*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\nEND\nnft flush ruleset";
    let arguments = [programs.path.as_str(), "sh", "-ec", script];
    let output = seat.node.host().run(Path::new("/usr/bin/env"), arguments)?;
    ensure!(
        output.status.success(),
        "cannot flush the rules of {}: {}",
        seat.contender.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Whether first, middle and last of the real Services answer now.
fn all_answer(world: &World, seat: &Seat) -> Result<bool> {
    let real: Vec<u32> = world.real.iter().copied().collect();
    let (Some(first), Some(last)) = (real.first(), real.last()) else {
        bail!("no Service has real endpoints");
    };
    let call = Call::connect(objects::frontend(*first))
        .also(objects::frontend(real[real.len() / 2]))
        .also(objects::frontend(*last));
    let call = call
        .count(3)
        .option("--timeout", TRY)
        .flag("--stop-at-failure");
    Ok(seat.client().call(&call)?.is_clean())
}

/// kube-proxy's metrics.
pub(super) fn scrape(seat: &Seat) -> Result<Metrics> {
    let text = seat
        .node
        .host()
        .within(|| http_get(([127, 0, 0, 1], 10249).into(), "/metrics"))?;
    Metrics::parse(&text)
}

/// The body of an answer.
fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok(body.to_owned())
}
