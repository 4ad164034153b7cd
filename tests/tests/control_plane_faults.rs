//! The fault proxy in front of a real API server: each fault is what it says, begins at once and ends at once.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread::Scope,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{
    Client, ControlPlane, ControlPlaneOptions, Families, Fault, FaultProxy, Needs, PATIENCE,
    eventually, test,
};
use serde_json::{Value, json};

/// Far longer than an answer takes, and short enough to wait for.
const A_WHILE: Duration = Duration::from_secs(2);

struct World {
    control_plane: ControlPlane,
    proxy: FaultProxy,
    client: Client,
}

fn with_proxy(title: &str, body: impl FnOnce(World) -> Result<()>) -> Result<()> {
    test(title, Needs::ControlPlane, |lab| {
        let master = lab.node("master", Families::V4)?;
        let control_plane = ControlPlane::start(&ControlPlaneOptions::on(&master)?)?;
        let proxy = FaultProxy::start(&control_plane)?;
        let client = Client::new(proxy.kubeconfig(), control_plane.place())?;
        body(World {
            control_plane,
            proxy,
            client,
        })
    })
}

fn default_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
}

impl World {
    fn asks(&self) -> Result<()> {
        let found = self.client.get(&default_namespace())?;
        found.map(drop).context("every cluster has it")
    }

    /// Asks on a thread of its own, for when no answer is expected.
    fn asking<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> Receiver<Result<()>> {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || tell.send(self.asks()));
        told
    }

    /// No answer comes as long as the fault lasts, and one comes when it is over.
    fn waits(&self, fault: Fault) -> Result<()> {
        self.proxy.set(fault);
        std::thread::scope(|scope| {
            let told = self.asking(scope);
            let early = told.recv_timeout(A_WHILE);
            self.proxy.set(Fault::None);
            if !matches!(early, Err(RecvTimeoutError::Timeout)) {
                bail!("an answer came: {early:?}");
            }
            told.recv_timeout(PATIENCE)?
        })
    }
}

/// Waits until the answer is an error with this word in it. A request may meet the end of a connection that was open
/// when the fault began.
fn says(client: &Client, word: &str) -> Result<()> {
    eventually(&format!("the error says {word}"), || {
        let error = client
            .get(&default_namespace())
            .err()
            .context("there is no error")?;
        ensure!(format!("{error:#}").contains(word), "{error:#}");
        Ok(())
    })
}

#[test]
fn refused_and_back() -> Result<()> {
    with_proxy("refuse", |world| {
        world.asks()?;
        world.proxy.set(Fault::Refuse);
        says(&world.client, "refused")?;
        let before = world.proxy.connections();
        world.proxy.set(Fault::None);
        eventually("requests are answered again", || world.asks())?;
        ensure!(
            world.proxy.connections() > before,
            "connections are counted"
        );
        Ok(())
    })
}

#[test]
fn held_and_slow_connections_go_on_afterwards() -> Result<()> {
    with_proxy("held", |world| {
        world.waits(Fault::BlackHole)?;
        world.asks()?;
        world.waits(Fault::BlackHole)?;
        world.waits(Fault::Slow)
    })
}

#[test]
fn every_answer_is_an_error() -> Result<()> {
    with_proxy("errors", |world| {
        world.asks()?;
        world.proxy.set(Fault::ServerErrors);
        says(&world.client, "InternalError")?;
        world.proxy.set(Fault::None);
        eventually("requests are answered again", || world.asks())
    })
}

#[test]
fn watches_are_gone_after_a_second_and_lists_work() -> Result<()> {
    with_proxy("gone", |world| {
        world.proxy.set(Fault::Gone);
        world.asks()?;
        let watched = world.client.raw("/api/v1/namespaces?watch=true")?;
        let events: Vec<Value> = watched
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let (last, before) = events.split_last().context("there is at least the end")?;
        ensure!(last["object"]["code"] == 410, "{last}");
        ensure!(
            before
                .iter()
                .any(|event| event["object"]["metadata"]["name"] == "default"),
            "{before:?}"
        );
        Ok(())
    })
}

#[test]
fn a_token_stays_whose_it_is() -> Result<()> {
    with_proxy("identity", |world| {
        let token = world.client.token("default", "default", 600)?;
        let kubeconfig =
            world
                .control_plane
                .token_kubeconfig(&world.proxy.server(), "nobody", &token)?;
        let nobody = Client::new(&kubeconfig, world.control_plane.place())?;
        for fault in [Fault::None, Fault::Gone] {
            world.proxy.set(fault);
            says(&nobody, "forbidden")?;
        }
        Ok(())
    })
}
