//! Random histories: objects come, change and go through the API while the way there fails, the agent is killed and the
//! API server starts anew. At the end the kernel holds what follows from the objects that the API server holds.
//!
//! MESH_HISTORIES says how many, MESH_SEED which is the first; a failure names its seed, which alone is the history.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mesh_lab::{
    Agent, AgentOptions, Change, Client, Families, Fault, FaultProxy, History, Lab, Needs, Node,
    Step, Tables, eventually, test,
};
use serde_json::Value;

const HISTORIES: u64 = 50;
const HISTORIES_LONG: u64 = 1_000;
const STEPS: u32 = 24;

/// What all histories have in common.
struct World {
    client: Client,
    proxy: FaultProxy,
    node: Node,
    options: AgentOptions,
    agent: Agent,
    alive: bool,
}

impl World {
    fn new(lab: &mut Lab) -> Result<Self> {
        lab.use_control_plane()?;
        let control_plane = lab.control_plane().context("it was started")?;
        let (client, proxy) = (control_plane.client()?, FaultProxy::start(control_plane)?);
        let flags = [
            "--kubeconfig".to_owned(),
            proxy.kubeconfig().display().to_string(),
        ];
        let (node, options) = (
            lab.node("one", Families::Dual)?,
            AgentOptions::flags(&flags),
        );
        Ok(Self {
            agent: node.agent_with(&options)?,
            client,
            proxy,
            node,
            options,
            alive: true,
        })
    }

    /// Gives how many frontends there were at the end.
    fn play(&mut self, lab: &mut Lab, seed: u64) -> Result<usize> {
        self.client.delete_all(&self.objects()?.concat())?;
        for step in History::new(seed, STEPS) {
            self.step(lab, step)?;
        }
        self.proxy.set(Fault::None);
        if !self.alive {
            self.start()?;
        }
        self.agent.wait_ready()?;
        eventually("the kernel is as the model", || {
            let [services, slices] = self.all()?;
            let wanted = Tables::wanted(&services, &slices)?;
            Tables::held(&self.agent)?.ensure_are(&wanted)?;
            Ok(wanted.frontends.len())
        })
    }

    fn step(&mut self, lab: &mut Lab, step: Step) -> Result<()> {
        match step {
            Step::Changes(changes) => changes.iter().try_for_each(|change| match change {
                Change::Apply(object) => self.client.apply(object).map(drop),
                Change::Delete(object) => self.client.delete(object),
            })?,
            Step::Outage(fault) => self.proxy.set(fault),
            Step::Wait(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
            Step::Kill => {
                self.agent.kill()?;
                self.alive = false;
            }
            Step::Start(milliseconds) => {
                self.start()?;
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            Step::RestartServer => {
                let control_plane = lab.control_plane().context("it was started")?;
                control_plane.kill_apiserver()?;
                control_plane.start_apiserver()?;
                // The connections of the one before are dead.
                self.client = control_plane.client()?;
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.agent = self.node.start_agent(&self.options)?;
        self.alive = true;
        Ok(())
    }

    /// Every Service and every EndpointSlice.
    fn all(&self) -> Result<[Vec<Value>; 2]> {
        let list = |version, kind| self.client.list(version, kind, None, "");
        Ok([
            list("v1", "Service")?,
            list("discovery.k8s.io/v1", "EndpointSlice")?,
        ])
    }

    /// Those that histories make.
    fn objects(&self) -> Result<[Vec<Value>; 2]> {
        let mut all = self.all()?;
        let types = [("v1", "Service"), ("discovery.k8s.io/v1", "EndpointSlice")];
        for (objects, (version, kind)) in all.iter_mut().zip(types) {
            objects.retain(|object| object["metadata"]["name"] != "kubernetes");
            for object in objects {
                // A list leaves out of its items what it says of itself.
                object["apiVersion"] = version.into();
                object["kind"] = kind.into();
            }
        }
        Ok(all)
    }
}

fn from_environment(name: &str) -> Result<Option<u64>> {
    let text = std::env::var(name).ok();
    let number = text.map(|text| text.parse().with_context(|| format!("{name}={text}")));
    number.transpose()
}

#[test]
fn random_histories_end_with_the_kernel_equal_to_the_model() -> Result<()> {
    test("histories", Needs::ControlPlane, |lab| {
        let usual = match std::env::var_os("MESH_LONG") {
            Some(_) => HISTORIES_LONG,
            None => HISTORIES,
        };
        let count = from_environment("MESH_HISTORIES")?.unwrap_or(usual);
        let first = from_environment("MESH_SEED")?.unwrap_or_else(|| u64::from(std::process::id()));
        println!("{count} histories, seeds from {first}");
        let (mut world, begin) = (World::new(lab)?, Instant::now());
        let mut frontends = 0;
        for seed in first..first + count {
            let outcome = world.play(lab, seed);
            frontends += outcome.with_context(|| format!("history of MESH_SEED={seed}"))?;
        }
        println!(
            "{count} histories in {:?}: {frontends} frontends compared",
            begin.elapsed()
        );
        Ok(())
    })
}
