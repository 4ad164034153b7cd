//! The source `kube`: watches of Services, EndpointSlices, the own Node and its Pods, which may have host ports. Other
//! Pods and Namespaces are not asked for: EndpointSlices say where Pods are.
//!
//! An API server that is away changes nothing: what was told stays, and the next list is compared with it.

mod address;
mod connect;
mod events;
mod link;
mod question;
mod remembered;
mod table;
mod trouble;
mod watch;
mod wire;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use kube::{Api, Client};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    Batch, Moment, Problem, decode,
    news::{Herald, Queue},
};
use crate::{
    engine::SplitMix,
    model::{Change, Kind},
};
pub use address::{Known, NoServer, Server, Servers};
pub use connect::{ConnectError, Identity, has_service_account};
pub use link::{LinkState, Links};
use question::{ANSWER, Meaning, Question};
use remembered::Remembered;
use table::Table;
use watch::{Output, Settings, Told, Waits};
use wire::Wire;

/// How often links are looked at when no watch says anything.
const TICK: Duration = Duration::from_millis(500);
/// After so long without a watch that works the next server is tried, where there are several, or the same one with
/// credentials that are read anew, where it refuses those it has.
const PATIENCE: Duration = Duration::from_secs(10);
/// What watches may be ahead of the engine.
const AHEAD: usize = 1024;
/// A server that does not answer the first question in this time is taken to be away.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What the source is told.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// What is known of where the API server is, but for what is remembered.
    pub known: Known,
    /// Who asks.
    pub identity: Identity,
    /// This node's name.
    pub node: String,
    /// Where the API server's addresses are remembered.
    pub run_dir: PathBuf,
    /// Which objects are ours.
    pub decode: decode::Options,
}

/// The source.
#[derive(Debug)]
pub struct KubeSource {
    options: KubeOptions,
    servers: Servers,
    links: Links,
    tables: BTreeMap<Kind, Arc<Mutex<Table>>>,
    remembered: Remembered,
    /// What is wrong with the watches, or with reaching a server at all.
    troubles: BTreeMap<Option<Kind>, Problem>,
    told: Vec<Problem>,
    incomplete: bool,
    /// The server refuses the credentials.
    refused: bool,
    stopped: oneshot::Receiver<()>,
    /// What is to be said as Events.
    news: Arc<tokio::sync::Mutex<Queue>>,
}

/// Ends the source from another thread.
#[derive(Debug)]
pub struct Stop(Option<oneshot::Sender<()>>);

impl Stop {
    /// The source's `run` returns soon.
    pub fn stop(&mut self) {
        if let Some(stop) = self.0.take()
            && stop.send(()).is_err()
        {
            tracing::debug!("the source has ended already");
        }
    }
}

/// Why nobody goes on.
struct Ended;

/// What was told since the last look.
struct Heard {
    changes: Vec<Change>,
    /// When the first of them was decoded.
    received: Moment,
    answer: Option<bool>,
}

async fn ask(client: Client, told: mpsc::Sender<Told>) {
    let answer = tokio::time::timeout(ANSWER, client.apiserver_version()).await;
    // What it has against us does not matter: it is there.
    let answered = matches!(answer, Ok(Ok(_) | Err(kube::Error::Api(_))));
    // Nobody listens when the watches were given up meanwhile.
    if told.send(Told::Answered(answered)).await.is_err() {
        tracing::debug!("an answer came too late");
    }
}

impl KubeSource {
    /// Nothing is asked yet. What the herald is told becomes Events.
    ///
    /// # Errors
    /// No server is known.
    pub fn open(options: KubeOptions) -> Result<(Self, Stop, Herald), NoServer> {
        let remembered = Remembered::read(&options.run_dir);
        let servers = servers(&options.known, &remembered)?;
        if let Some(warning) = &servers.warning {
            tracing::warn!("{warning}");
        }
        let table = |kind| Arc::new(Mutex::new(Table::new(kind, options.decode.clone())));
        let (stop, stopped) = oneshot::channel();
        let (herald, news) = Herald::heard();
        let source = Self {
            tables: link::WATCHED.map(|kind| (kind, table(kind))).into(),
            servers,
            links: Links::new(Instant::now()),
            remembered,
            troubles: BTreeMap::new(),
            told: Vec::new(),
            incomplete: false,
            refused: false,
            stopped,
            news: Arc::new(tokio::sync::Mutex::new(news)),
            options,
        };
        Ok((source, Stop(Some(stop)), herald))
    }

    /// How the watches are, for whoever wants to know while the source runs.
    #[must_use]
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// The servers that will be tried, as people name them.
    #[must_use]
    pub fn servers(&self) -> String {
        let names = self.servers.servers.iter().map(name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// Watches until stopped or until the sink has enough.
    pub fn run(mut self, mut sink: impl FnMut(Batch) -> ControlFlow<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                // That it has ended is all there is to know.
                let Ended = self.watch(&mut sink).await;
            }),
            Err(error) => {
                tracing::error!(%error, "the source has no event queue: nothing is watched")
            }
        }
    }

    async fn watch(&mut self, sink: &mut impl FnMut(Batch) -> ControlFlow<()>) -> Ended {
        let unwatched = Kind::ALL
            .into_iter()
            .filter(|kind| !self.tables.contains_key(kind));
        let unwatched = unwatched.map(Change::Synced).collect();
        if self.tell(unwatched, Moment::now(), sink).is_break() {
            return Ended;
        }
        let mut random = SplitMix(crate::datapath::monotonic_nanoseconds());
        let mut waits = Waits::default();
        for server in 0.. {
            let Some(server) = self.server(server) else {
                return Ended;
            };
            let outcome = match self.reach(&server).await {
                Ok((client, streaming)) => self.follow(&client, streaming, sink).await,
                Err(problem) => {
                    self.troubles.insert(None, problem);
                    let wait = waits.next(tokio::time::Instant::now(), &mut random);
                    self.pause(wait, sink).await
                }
            };
            if outcome.is_break() {
                return Ended;
            }
        }
        Ended
    }

    /// The server to try next. What has been remembered since the last one counts, too.
    fn server(&mut self, turn: usize) -> Option<Server> {
        if let Ok(servers) = servers(&self.options.known, &self.remembered) {
            self.servers = servers;
        }
        let servers = &self.servers.servers;
        servers.get(turn.checked_rem(servers.len())?).cloned()
    }

    /// A client for a server that answers, and whether it may know streaming lists.
    async fn reach(&self, server: &Server) -> Result<(Client, bool), Problem> {
        let client = connect::client(server, &self.options.identity, &self.links).await;
        let client = client.map_err(|error| of_connect(&error))?;
        let answer = tokio::time::timeout(FIRST_ANSWER, client.apiserver_version()).await;
        match answer {
            Ok(Ok(version)) => {
                tracing::info!(server = name(server), version = version.git_version, "connected");
                Ok((client, may_stream(&version.major, &version.minor)))
            }
            // It is there; what it has against us each watch will say.
            Ok(Err(kube::Error::Api(_))) => Ok((client, false)),
            Ok(Err(error)) => Err(trouble::of_server(&name(server), &error)),
            Err(_) => Err(Problem {
                object: Some(format!("API server {}", name(server))),
                reason: format!("it says nothing within {} s", FIRST_ANSWER.as_secs()),
                fix: "what is in force stays, and it is tried again; see what is between it and this node".to_owned(),
                ..Problem::default()
            }),
        }
    }

    /// Waits, and ends when told to.
    async fn pause(
        &mut self,
        wait: Duration,
        sink: &mut impl FnMut(Batch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.tell(Vec::new(), Moment::now(), sink)?;
        tokio::select! {
            _ = &mut self.stopped => ControlFlow::Break(()),
            () = tokio::time::sleep(wait) => ControlFlow::Continue(()),
        }
    }

    /// Follows one server, for ever or until another should be tried.
    async fn follow(
        &mut self,
        client: &Client,
        streaming: bool,
        sink: &mut impl FnMut(Batch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (told, mut hears) = mpsc::channel(AHEAD);
        let _watches = self.start(client, streaming, &told);
        self.troubles.remove(&None);
        self.refused = false;
        let mut working = Instant::now();
        let mut question = Question::default();
        loop {
            let first = tokio::select! {
                _ = &mut self.stopped => return ControlFlow::Break(()),
                first = hears.recv() => first,
                () = tokio::time::sleep(TICK) => None,
            };
            let heard = self.gather(first, &mut hears);
            self.tell(heard.changes, heard.received, sink)?;
            let now = Instant::now();
            let meaning = heard.answer.map(|answer| question.answered(answer, now));
            match meaning {
                Some(Meaning::Back) => return ControlFlow::Continue(()),
                Some(Meaning::Away) => self.unanswered(),
                Some(Meaning::Fine) | None => {}
            }
            if question.is_due(self.links.silence(now), now) {
                question.asked(now);
                // Not among the watches: what has ended would be kept there.
                tokio::spawn(ask(client.clone(), told.clone()));
            }
            if !self.links.are_all_broken() {
                working = Instant::now();
            }
            let is_long = working.elapsed() > PATIENCE;
            if is_long && (self.refused || self.knows_another()) {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Whether there is more than one server to try, by now.
    fn knows_another(&self) -> bool {
        servers(&self.options.known, &self.remembered)
            .is_ok_and(|servers| servers.servers.len() > 1)
    }

    fn unanswered(&self) {
        for kind in link::WATCHED {
            self.links.failed(kind, "the API server does not answer");
        }
    }

    /// The watches and the writer of Events; they end when what is returned is dropped.
    fn start(&self, client: &Client, streaming: bool, told: &mpsc::Sender<Told>) -> JoinSet<()> {
        let seed = crate::datapath::monotonic_nanoseconds();
        let settings = |labels: Option<&str>, fields: Option<String>| Settings {
            labels: labels.map(ToOwned::to_owned),
            fields,
            streaming,
            seed,
        };
        let output = |kind| {
            let table = self.tables.get(&kind).map(Arc::clone);
            table.map(|table| Output {
                table,
                told: told.clone(),
            })
        };
        let mut watches = JoinSet::new();
        if let Some(output) = output(Kind::Service) {
            let services: Api<Wire<v1::Service>> = Api::all(client.clone());
            let labels = proxy_name(self.options.decode.proxy_name.as_deref());
            watches.spawn(watch::run(services, settings(Some(&labels), None), output));
        }
        if let Some(output) = output(Kind::EndpointSlice) {
            let slices: Api<Wire<discovery::EndpointSlice>> = Api::all(client.clone());
            let labels = "!service.kubernetes.io/headless";
            watches.spawn(watch::run(slices, settings(Some(labels), None), output));
        }
        if let Some(output) = output(Kind::Node) {
            let nodes: Api<Wire<v1::Node>> = Api::all(client.clone());
            let own = format!("metadata.name={}", self.options.node);
            watches.spawn(watch::run(nodes, settings(None, Some(own)), output));
        }
        if let Some(output) = output(Kind::Pod) {
            let pods: Api<Wire<v1::Pod>> = Api::all(client.clone());
            let own = format!("spec.nodeName={}", self.options.node);
            watches.spawn(watch::run(pods, settings(None, Some(own)), output));
        }
        let node = self.options.node.clone();
        watches.spawn(events::publish(
            client.clone(),
            node,
            Arc::clone(&self.news),
        ));
        watches
    }

    /// Everything that is at hand.
    fn gather(&mut self, first: Option<Told>, hears: &mut mpsc::Receiver<Told>) -> Heard {
        let mut heard = Heard {
            changes: Vec::new(),
            received: Moment::now(),
            answer: None,
        };
        let mut next = first;
        while let Some(told) = next {
            match told {
                Told::Changes(more, at) => {
                    heard.changes.extend(more);
                    heard.received = heard.received.min(at);
                }
                Told::Answered(answer) => heard.answer = Some(answer),
                Told::Failed(kind, problem, refused) => {
                    self.refused |= refused;
                    self.links.failed(kind, &problem.reason);
                    self.troubles.insert(Some(kind), problem);
                }
            }
            let room = heard.changes.len() < AHEAD;
            next = room.then(|| hears.try_recv().ok()).flatten();
        }
        heard
    }

    /// Tells what changed, if anything did.
    fn tell(
        &mut self,
        mut changes: Vec<Change>,
        received: Moment,
        sink: &mut impl FnMut(Batch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for slice in changes.iter().filter_map(table::api_servers) {
            self.remembered.note(slice);
        }
        changes.extend(self.completeness());
        let problems = self.problems();
        let problems = (problems != self.told).then(|| {
            self.told.clone_from(&problems);
            problems
        });
        if changes.is_empty() && problems.is_none() {
            return ControlFlow::Continue(());
        }
        sink(Batch {
            changes,
            problems,
            received,
        })
    }

    fn completeness(&mut self) -> Option<Change> {
        let incomplete = self.tables().any(|table| table.is_incomplete());
        let changed = incomplete != std::mem::replace(&mut self.incomplete, incomplete);
        changed.then_some(Change::Incomplete(incomplete))
    }

    /// What is wrong now: a watch that works again is none of it.
    fn problems(&mut self) -> Vec<Problem> {
        for state in self.links.states(Instant::now()) {
            if state.error.is_none() {
                self.troubles.remove(&Some(state.kind));
            }
        }
        let mut problems: Vec<Problem> = self.troubles.values().cloned().collect();
        for table in self.tables() {
            problems.extend(table.problems().cloned());
        }
        problems
    }

    fn tables(&self) -> impl Iterator<Item = MutexGuard<'_, Table>> {
        let tables = self.tables.values();
        tables.map(|table| table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn servers(known: &Known, remembered: &Remembered) -> Result<Servers, NoServer> {
    let remembered = remembered.addresses().to_vec();
    let known = known.clone();
    address::choose(&Known {
        remembered,
        ..known
    })
}

fn name(server: &Server) -> String {
    match server {
        Server::Url(url) => url.clone(),
        Server::Kubeconfig => "of the kubeconfig".to_owned(),
    }
}

fn of_connect(error: &ConnectError) -> Problem {
    Problem {
        object: Some("API server".to_owned()),
        reason: error.to_string(),
        fix: "it is tried again".to_owned(),
        ..Problem::default()
    }
}

/// Services that are ours, as kube-proxy selects them.
fn proxy_name(name: Option<&str>) -> String {
    const LABEL: &str = "service.kubernetes.io/service-proxy-name";
    match name {
        None => format!("!{LABEL}"),
        Some(name) => format!("{LABEL}={name}"),
    }
}

/// Kubernetes 1.27 is the first that understands the question; whether it says yes is another matter.
fn may_stream(major: &str, minor: &str) -> bool {
    let number = |text: &str| -> u32 {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_default()
    };
    (number(major), number(minor)) >= (1, 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(may_stream("1", "36") && may_stream("1", "27+") && may_stream("2", "0"));
        assert!(!may_stream("1", "26") && !may_stream("", ""));
    }

    #[test]
    fn services_are_selected_as_kube_proxy_does() {
        assert_eq!(
            proxy_name(None),
            "!service.kubernetes.io/service-proxy-name"
        );
        assert_eq!(
            proxy_name(Some("mesh")),
            "service.kubernetes.io/service-proxy-name=mesh"
        );
    }
}
