//! Whether the kernel holds what the API server holds: for each Service, the set of its endpoints' addresses. Asked of the
//! agent alone, whose maps can be read as tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use mesh_lab::Agent;
use serde_json::Value;

use super::{contender::Running, objects, world::World};

/// The last change is given so long to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Endpoints by the address of their Service.
type Endpoints = BTreeMap<String, BTreeSet<String>>;

/// How many Services differ; none if the contender cannot be asked.
pub(super) fn missed(world: &World, running: &Running) -> Result<Option<usize>> {
    let Running::Agent(agent) = running else {
        return Ok(None);
    };
    let wanted = of_api(world)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let held = of_kernel(agent)?;
        let differ = wanted
            .iter()
            .filter(|(service, ends)| held.get(*service) != Some(*ends))
            .count();
        if differ == 0 || Instant::now() >= deadline {
            return Ok(Some(differ));
        }
    }
}

fn of_api(world: &World) -> Result<Endpoints> {
    let slices = world
        .api
        .list("discovery.k8s.io/v1", "EndpointSlice", Some("default"), "")?;
    let mut addresses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for slice in &slices {
        let name = slice["metadata"]["name"]
            .as_str()
            .context("a slice without a name")?;
        let ends = slice["endpoints"].as_array().into_iter().flatten();
        let ends = ends.filter_map(|end| Some(end["addresses"][0].as_str()?.to_owned()));
        addresses.insert(name.to_owned(), ends.collect());
    }
    (0..=world.services)
        .map(|number| {
            let ends = addresses.remove(&objects::name(number));
            let ends = ends.with_context(|| format!("no EndpointSlice of Service {number}"))?;
            Ok((objects::frontend(number).ip().to_string(), ends))
        })
        .collect()
}

fn of_kernel(agent: &Agent) -> Result<Endpoints> {
    let by_id: BTreeMap<u64, String> = items(agent, "backends")?
        .iter()
        .filter_map(|row| Some((row["id"].as_u64()?, row["address"].as_str()?.to_owned())))
        .collect();
    // Slots are listed as far as their sets reach.
    let mut sets: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for row in items(agent, "slots")? {
        if let (Some(set), Some(backend)) = (row["set"].as_u64(), row["backend"].as_u64()) {
            let address = by_id.get(&backend).cloned();
            sets.entry(set).or_default().extend(address);
        }
    }
    let frontends = items(agent, "frontends")?;
    let frontends = frontends.iter().filter(|row| row["port"] != 0);
    Ok(frontends
        .filter_map(|row| {
            let ends = sets.get(&row["clusterSet"].as_u64()?)?;
            Some((row["address"].as_str()?.to_owned(), ends.clone()))
        })
        .collect())
}

fn items(agent: &Agent, map: &str) -> Result<Vec<Value>> {
    let document = agent.json(&["bpf", map])?;
    let items = document["items"].as_array();
    items
        .cloned()
        .with_context(|| format!("`bpf {map}` lists nothing"))
}
