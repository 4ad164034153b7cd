//! A random world of Services on two real nodes, and its questions asked by real traffic: what a client saw is compared with
//! what the model says. Each node is asked by its own processes, its pods (with and without hooks at their sockets) and a
//! host outside that routes all Services' addresses to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use service_model::{Answer, Ground, PodPlace, Protocol, Question, Random, Way, World};

use crate::{
    call::Call,
    lab::{Families, Lab, Node, Pod, netns},
    place::Place,
    process::Process,
    traffic::{Failure, Report},
};

/// What every pod listens on.
const TARGETS: [u16; 3] = [8080, 8081, 8443];
/// As many Services and questions as ten small worlds have.
const SERVICES: u16 = 60;
const QUESTIONS: usize = 300;
/// Who waits for silence is in nobody's way.
const AT_ONCE: usize = 4;
/// The world that the agent and kube-proxy are both asked about.
const SEED: u64 = 6;
/// Pods of each node.
const PODS: usize = 3;
/// Milliseconds after which nobody answers any more, where somebody should and where nobody should.
const PATIENCE: u64 = 3000;
const SILENCE: u64 = 300;
/// What hosts outside route to their node: the Services' range, and what load balancers and external IPs are taken from.
const ROUTED: [&str; 6] = [
    "10.96.0.0/16",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fd00:10:96::/112",
    "2001:db8:1::/64",
    "2001:db8:2::/64",
];

/// The nodes and what runs there.
#[derive(Debug)]
pub struct ServiceWorld {
    /// The objects.
    pub world: World,
    sides: Vec<Side>,
    /// The names of servers, by where they listen.
    names: BTreeMap<SocketAddr, String>,
    _servers: Vec<Process>,
}

/// A node with its pods and the host outside.
#[derive(Debug)]
struct Side {
    node: Node,
    pods: Vec<Pod>,
    outside: Node,
    ground: Ground,
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// These answered, each time one.
    Answered(BTreeSet<String>),
    /// Connection refused.
    Refused,
    /// Nothing.
    Silence,
    /// There is no way.
    Unreachable,
    /// The socket was forbidden to send.
    Denied,
    /// Sometimes this, sometimes that.
    Mixed(Box<Report>),
}

/// One client's view of a question.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The question.
    pub question: Question,
    /// No hook saw its socket.
    pub is_bare: bool,
    /// What the model says.
    pub wanted: Answer,
    /// What was seen.
    pub seen: Seen,
    /// Whether that is the same.
    pub agrees: bool,
}

impl ServiceWorld {
    /// The seed of the world to play: `MESH_SEED`, or always the same.
    pub fn seed() -> Result<u64> {
        match std::env::var("MESH_SEED") {
            Ok(text) => text.parse().with_context(|| format!("MESH_SEED={text}")),
            Err(_) => Ok(SEED),
        }
    }

    /// Nodes `one` and `two` with pods, and the objects of a seed; nothing is published, and no agent runs.
    pub fn new(lab: &mut Lab, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let (one, two) = (
            lab.node("one", Families::Dual)?,
            lab.node("two", Families::Dual)?,
        );
        let outside = [
            lab.node("outside-one", Families::Dual)?,
            lab.node("outside-two", Families::Dual)?,
        ];
        let mut servers = Vec::new();
        let mut names = BTreeMap::new();
        let mut ground = Ground {
            nodes: Vec::new(),
            places: Vec::new(),
            targets: TARGETS.to_vec(),
            outside: outside.iter().flat_map(|it| it.address().all()).collect(),
            is_wild: false,
        };
        let mut sides = Vec::new();
        for ((node, zone), outside) in [(one, "a"), (two, "b")].into_iter().zip(outside) {
            let titles: Vec<String> = (0..PODS)
                .map(|it| format!("{}-{it}", node.name()))
                .collect();
            let pods = node.pods(&titles)?;
            for pod in &pods {
                ground.places.push(place_of(pod)?);
                for port in TARGETS {
                    let name = format!("{}:{port}", pod.name());
                    servers.push(pod.place().serve(&name, &[port])?);
                    let ends = pod.address().all();
                    names.extend(ends.map(|ip| (SocketAddr::new(ip, port), name.clone())));
                }
            }
            ground.nodes.push(service_model::Node {
                name: node.name().to_owned(),
                zone: Some(zone.to_owned()),
                addresses: node.address().all().collect(),
            });
            route(&outside, &node)?;
            lead_nowhere(&node)?;
            // The kernel tells one host of at most one refusal a second.
            let unlimited = [("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")];
            node.host().within(|| netns::sysctls(&unlimited))?;
            sides.push((node, pods, outside));
        }
        let world = ground.world(&mut random, SERVICES);
        let sides = sides.into_iter().map(|(node, pods, outside)| Side {
            ground: Ground {
                outside: outside.address().all().collect(),
                ..ground.clone()
            },
            node,
            pods,
            outside,
        });
        Ok(Self {
            world,
            sides: sides.collect(),
            names,
            _servers: servers,
        })
    }

    /// The objects as an API server takes them: when they were made is its own affair.
    #[must_use]
    pub fn manifests(&self) -> Vec<Value> {
        let mut manifests = self.world.manifests();
        for manifest in &mut manifests {
            if let Some(metadata) = manifest["metadata"].as_object_mut() {
                metadata.remove("creationTimestamp");
            }
        }
        manifests
    }

    /// A node.
    pub fn node(&self, name: &str) -> Result<&Node> {
        Ok(&self.side(name)?.node)
    }

    fn side(&self, name: &str) -> Result<&Side> {
        let mut sides = self.sides.iter();
        sides
            .find(|side| side.node.name() == name)
            .with_context(|| format!("no node {name}"))
    }

    /// All questions of a seed to a node, every other one of its pods' by packets that no hook at a socket has seen.
    pub fn ask_all(&self, node: &str, seed: u64) -> Result<Vec<Asked>> {
        let ground = &self.side(node)?.ground;
        let mut random = Random::new(seed);
        let mut questions = Vec::new();
        while questions.len() < QUESTIONS {
            let question = ground.question(&mut random, &self.world, node);
            questions.extend(question.map(|it| (it, questions.len() % 2 == 1)));
        }
        let share = questions.len().div_ceil(AT_ONCE);
        std::thread::scope(|scope| {
            let ask = |(question, is_bare): &(Question, bool)| self.ask(question, *is_bare);
            let ask_some =
                |some| scope.spawn(move || Iterator::map(<[_]>::iter(some), ask).collect());
            let threads: Vec<_> = questions.chunks(share).map(ask_some).collect();
            let mut asked = Vec::new();
            for thread in threads {
                let some: Result<Vec<Asked>> =
                    thread.join().map_err(|_| anyhow!("a thread failed"))?;
                asked.extend(some?);
            }
            Ok(asked)
        })
    }

    /// These, with the objects that they are about.
    #[must_use]
    pub fn tell(&self, asked: &[&Asked]) -> String {
        let one = |it: &&Asked| format!("{it:?}\n{}", self.world.about(&it.question));
        let all: Vec<String> = asked.iter().map(one).collect();
        format!("{} differ:\n{}", all.len(), all.join("\n\n"))
    }

    /// Asks by real traffic.
    fn ask(&self, question: &Question, is_bare: bool) -> Result<Asked> {
        let is_bare = is_bare && question.client.way == Way::Pod;
        let wanted = self.world.answer(question);
        let names = match &wanted {
            Answer::Backends { of, .. } => self.names_of(of)?,
            Answer::Passes | Answer::Refused(_) | Answer::Dropped => BTreeSet::new(),
        };
        let to = SocketAddr::new(question.to, question.port);
        let timeout = match wanted {
            Answer::Backends { .. } | Answer::Refused(_) => PATIENCE,
            Answer::Passes | Answer::Dropped => SILENCE,
        };
        let mut call = Call::connect(to).option("--timeout", timeout);
        if question.protocol == Protocol::Udp {
            call = call.udp();
        }
        // A fair choice misses one of N in 30 N tries with a chance of N e^-30.
        let count = if names.is_empty() {
            2
        } else {
            30 * u64::try_from(names.len())?
        };
        let call = call.count(count).flag("--stop-at-failure");
        let seen = Seen::of(&self.place(question, is_bare)?.call(&call)?);
        let agrees = match (&wanted, &seen) {
            (Answer::Backends { sticky: true, .. }, Seen::Answered(by)) => {
                by.len() == 1 && by.is_subset(&names)
            }
            (Answer::Backends { .. }, Seen::Answered(by)) => *by == names,
            (Answer::Refused(_), Seen::Refused) | (Answer::Dropped, Seen::Silence) => true,
            // A client at a hooked socket is told at once.
            (Answer::Dropped, Seen::Refused) => match question.client.way {
                Way::Host | Way::Pod => !is_bare,
                Way::Outside => false,
            },
            // The host whose address it is refuses what nobody serves; elsewhere there is no way.
            (Answer::Passes, Seen::Refused) => self.is_of_node(question.to),
            (Answer::Passes, Seen::Silence | Seen::Unreachable) => true,
            _ => false,
        };
        let question = question.clone();
        Ok(Asked {
            question,
            is_bare,
            wanted,
            seen,
            agrees,
        })
    }

    fn is_of_node(&self, ip: IpAddr) -> bool {
        self.sides
            .iter()
            .any(|side| side.node.address().all().any(|own| own == ip))
    }

    fn names_of(&self, ends: &BTreeSet<SocketAddr>) -> Result<BTreeSet<String>> {
        let name = |end| {
            self.names
                .get(end)
                .cloned()
                .with_context(|| format!("no server at {end}"))
        };
        ends.iter().map(name).collect()
    }

    fn place(&self, question: &Question, is_bare: bool) -> Result<Place> {
        let side = self.side(&question.node)?;
        match question.client.way {
            Way::Host => Ok(side.node.host()),
            Way::Outside => Ok(side.outside.host()),
            Way::Pod => {
                let has = |pod: &&Pod| pod.address().all().any(|ip| ip == question.client.address);
                let pod = side.pods.iter().find(has).context("no such pod")?;
                if is_bare {
                    pod.bare_place()
                } else {
                    Ok(pod.place())
                }
            }
        }
    }
}

impl Seen {
    fn of(report: &Report) -> Self {
        let failed = |failure| report.failed(failure);
        let failures: u64 = report.errors.values().sum();
        if failures == 0 && report.answered > 0 {
            return Self::Answered(report.backends.keys().cloned().collect());
        }
        if report.answered > 0 {
            return Self::Mixed(Box::new(report.clone()));
        }
        let kinds = [
            (Failure::Refused, Self::Refused),
            (Failure::Timeout, Self::Silence),
            (Failure::Unreachable, Self::Unreachable),
            (Failure::Denied, Self::Denied),
        ];
        let kind = kinds
            .into_iter()
            .find(|(kind, _)| failed(*kind) == failures);
        kind.map_or_else(|| Self::Mixed(Box::new(report.clone())), |(_, seen)| seen)
    }
}

fn place_of(pod: &Pod) -> Result<PodPlace> {
    let address = pod.address();
    let (Some(v4), Some(v6)) = (address.v4, address.v6) else {
        bail!("{} has one family", pod.name());
    };
    Ok(PodPlace {
        node: pod.node().to_owned(),
        v4: v4.into(),
        v6: v6.into(),
    })
}

fn route(outside: &Node, node: &Node) -> Result<()> {
    // A client's own port stands for it where it is hidden: no process of the node shall choose the same one.
    let ports = [("ipv4/ip_local_port_range", "20000 29999")];
    outside.host().within(|| netns::sysctls(&ports))?;
    let address = node.address();
    for range in ROUTED {
        let via: Option<IpAddr> = match range.contains(':') {
            true => address.v6.map(Into::into),
            false => address.v4.map(Into::into),
        };
        let via = via.context("both families")?;
        outside.host().ip(&format!("route add {range} via {via}"))?;
    }
    Ok(())
}

/// As every real node has one, a default route; it ends at a bridge without ports.
fn lead_nowhere(node: &Node) -> Result<()> {
    let host = node.host();
    host.ip("link add nowhere type bridge")?;
    host.ip("link set nowhere up")?;
    host.ip("route add default dev nowhere")?;
    host.ip("-6 route add default dev nowhere")?;
    Ok(())
}
