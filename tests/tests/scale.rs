//! Ten thousand Services with ten endpoints each: all are there, and one endpoint's change costs what it should.

use anyhow::{Result, ensure};
use mesh_lab::{
    Agent, Condition, Deployment, Families, Format, Many, Needs, Node, Port, eventually, settle,
    test,
};

const MANY: Many = Many {
    services: 10_000,
    endpoints: 10,
};

/// What the agent has done to the maps so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    stores: f64,
    operations: f64,
}

fn cost(agent: &Agent) -> Result<Cost> {
    let metrics = agent.metrics()?;
    let name = "mesh_agent_map_operations_total";
    ensure!(metrics.has(name, &[]), "there is no {name}");
    Ok(Cost {
        stores: metrics.sum(name, &[("op", "store")]),
        operations: metrics.sum(name, &[("op", "update")]) + metrics.sum(name, &[("op", "delete")]),
    })
}

/// The cost when nothing is being written: the same twice.
fn settled_cost(agent: &Agent) -> Result<Cost> {
    let mut last = cost(agent)?;
    eventually("the agent has nothing more to write", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = cost(agent)?;
        let same = now == last;
        last = now;
        ensure!(same, "it still writes");
        Ok(now)
    })
}

fn ensure_cheap(agent: &Agent, before: Cost, what: &str) -> Result<Cost> {
    let after = settled_cost(agent)?;
    let (stores, operations) = (
        after.stores - before.stores,
        after.operations - before.operations,
    );
    ensure!(stores + operations > 0.0, "{what}: nothing was written");
    ensure!(stores <= 4.0, "{what}: {stores} stores");
    ensure!(operations <= 8.0, "{what}: {operations} map operations");
    Ok(after)
}

/// Ten real pods in the midst of all the others.
fn real(node: &Node) -> Result<Deployment> {
    let mut web = Deployment::new("web", &["10.96.0.10"], &[Port::tcp("http", 80, 8080)])?;
    let names: Vec<String> = (0..10).map(|number| format!("web-{number}")).collect();
    for pod in node.pods(&names)? {
        web.add(&pod)?;
    }
    Ok(web)
}

#[test]
fn one_endpoint_among_a_hundred_thousand_costs_a_few_writes() -> Result<()> {
    test("scale", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        let client = node.pod("client")?.place();
        let source = lab.source();
        MANY.write(&source, Format::Json)?;
        let mut web = real(&node)?;
        web.publish(&source)?;
        let agent = node.agent()?;
        let to = web.v4("http")?;
        settle(&client, to, &web.ready())?;
        for condition in [
            Condition::Unready,
            Condition::Ready,
            Condition::Gone,
            Condition::Ready,
        ] {
            let before = settled_cost(&agent)?;
            web.set("web-3", condition)?;
            web.publish(&source)?;
            settle(&client, to, &web.ready())?;
            ensure_cheap(&agent, before, &format!("{condition:?}"))?;
        }
        // One for another at once.
        let before = settled_cost(&agent)?;
        web.set("web-4", Condition::Gone)?;
        web.add(&node.pod("web-new")?)?;
        web.publish(&source)?;
        settle(&client, to, &web.ready())?;
        ensure_cheap(&agent, before, "replaced")?;
        Ok(())
    })
}

#[test]
fn all_services_are_programmed() -> Result<()> {
    test("scale-all", Needs::Agent, |lab| {
        let node = lab.node("one", Families::V4)?;
        MANY.write(&lab.source(), Format::Json)?;
        let agent = node.agent()?;
        let frontends = agent.cli(&["bpf", "frontends"])?.ok()?.stdout;
        for service in [0, 1, MANY.services / 2, MANY.services - 1] {
            let cluster_ip = MANY.cluster_ip(service).to_string();
            ensure!(frontends.contains(&cluster_ip), "{cluster_ip} is missing");
        }
        let backends = agent.json(&["bpf", "backends"])?;
        let dumped = mesh_lab::values(&backends, "address").len();
        ensure!(
            dumped >= usize::try_from(MANY.services * MANY.endpoints)?,
            "{dumped} backends"
        );
        let metrics = agent.metrics()?;
        let held = metrics.sum("mesh_agent_map_entries", &[("map", "frontends")]);
        ensure!(held >= f64::from(MANY.services), "{held} frontends");
        // A restart finds all of it in place and writes nothing.
        drop(agent);
        let agent = node.agent()?;
        let cost = settled_cost(&agent)?;
        ensure!(
            cost.stores + cost.operations < 1.0,
            "a restart wrote: {cost:?}"
        );
        Ok(())
    })
}
