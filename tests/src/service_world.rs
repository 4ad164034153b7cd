//! A random world of Services on two real nodes, and its questions asked by real traffic: what a client saw is compared with
//! what the model says. Each node is asked by its own processes, its pods (with and without hooks at their sockets) and a
//! host outside that routes all Services' addresses to it.

mod ground;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use service_model::{Answer, Ground, Protocol, Question, Random, Way, World};

use crate::{
    call::Call,
    lab::{Families, Lab, Node, Pod},
    place::Place,
    process::Process,
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

pub use seen::{Asked, Seen};

/// The nodes and what runs there.
#[derive(Debug)]
pub struct ServiceWorld {
    /// The objects.
    pub world: World,
    ground: Ground,
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
        let mut sides = Vec::new();
        for name in ["one", "two"] {
            let node = lab.node(name, Families::Dual)?;
            let titles: Vec<String> = (0..PODS).map(|it| format!("{name}-{it}")).collect();
            let pods = node.pods(&titles)?;
            for pod in &pods {
                ground::leave_ports(&pod.place())?;
            }
            let outside = lab.node(&format!("outside-{name}"), Families::Dual)?;
            ground::make_real(&node)?;
            ground::route(&outside, &node)?;
            sides.push(Side {
                node,
                pods,
                outside,
            });
        }
        let (mut servers, mut names) = (Vec::new(), BTreeMap::new());
        for pod in sides.iter().flat_map(|side| &side.pods) {
            for port in TARGETS {
                let name = format!("{}:{port}", pod.name());
                servers.push(pod.place().serve(&name, &[port])?);
                let ends = pod.address().all();
                names.extend(ends.map(|ip| (SocketAddr::new(ip, port), name.clone())));
            }
        }
        let ground = ground::of(&sides)?;
        Ok(Self {
            world: ground.world(&mut Random::new(seed), SERVICES),
            ground,
            sides,
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
        let outside = self.side(node)?.outside.address().all().collect();
        let ground = Ground {
            outside,
            ..self.ground.clone()
        };
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
    pub fn ask(&self, question: &Question, is_bare: bool) -> Result<Asked> {
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
        let mut asked = Asked {
            question: question.clone(),
            is_bare,
            wanted,
            seen,
            agrees: false,
        };
        asked.agrees = self.agrees(&asked, &names);
        Ok(asked)
    }

    fn agrees(&self, asked: &Asked, names: &BTreeSet<String>) -> bool {
        match (&asked.wanted, &asked.seen) {
            (Answer::Backends { sticky: true, .. }, Seen::Answered(by)) => {
                by.len() == 1 && by.is_subset(names)
            }
            (Answer::Backends { .. }, Seen::Answered(by)) => by == names,
            (Answer::Refused(_), Seen::Refused) | (Answer::Dropped, Seen::Silence) => true,
            // A client at a hooked socket is told at once.
            (Answer::Dropped, Seen::Refused) => {
                !asked.is_bare && asked.question.client.way != Way::Outside
            }
            // The host whose address it is refuses what nobody serves; elsewhere there is no way.
            (Answer::Passes, Seen::Refused) => self.is_of_node(asked.question.to),
            (Answer::Passes, Seen::Silence | Seen::Unreachable) => true,
            _ => false,
        }
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
