//! What the kernel should hold for the objects of an API server, worked out the slow and plain way: an oracle that shares
//! nothing with the agent. And what it does hold, as the agent's dumps of the pinned maps tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::agent::Agent;

/// Address, port and protocol; port 0 of protocol `any` is the address as a whole.
type Frontend = (IpAddr, u16, String);
/// Where connections go.
type Target = (IpAddr, u16);

/// What stands behind a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Calls are refused.
    Nobody,
    /// One of these, none if there is no endpoint; with the affinity's seconds, 0 for none.
    Backends(BTreeSet<Target>, u64),
}

/// The tables, without the ids that depend on history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// What clients ask for, and where that leads.
    pub frontends: BTreeMap<Frontend, Behind>,
}

impl Tables {
    /// What should be there for these Services and EndpointSlices. No two of the Services have an address in common.
    pub fn wanted(services: &[Value], slices: &[Value]) -> Result<Self> {
        let mut tables = Self::default();
        let mut of_service: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
        for slice in slices {
            let own = text(slice, "/metadata/labels/kubernetes.io~1service-name");
            let key = (text(slice, "/metadata/namespace"), own);
            of_service.entry(key).or_default().push(slice);
        }
        for service in services.iter().filter(|service| is_served(service)) {
            let key = (
                text(service, "/metadata/namespace"),
                text(service, "/metadata/name"),
            );
            let slices = of_service.get(&key).map_or(&[][..], Vec::as_slice);
            for address in list(service, "/spec/clusterIPs") {
                let address: IpAddr = address.as_str().context("an address")?.parse()?;
                tables.add(service, address, slices)?;
            }
        }
        Ok(tables)
    }

    fn add(&mut self, service: &Value, address: IpAddr, slices: &[&Value]) -> Result<()> {
        let whole = (address, 0, "any".to_owned());
        self.frontends.insert(whole, Behind::Nobody);
        let affinity = match text(service, "/spec/sessionAffinity") {
            "ClientIP" => service
                .pointer("/spec/sessionAffinityConfig/clientIP/timeoutSeconds")
                .and_then(Value::as_u64)
                .context("the API server gives a default")?,
            _ => 0,
        };
        for port in list(service, "/spec/ports") {
            let frontend = (
                address,
                number(port, "/port")?,
                text(port, "/protocol").to_owned(),
            );
            let ready = best(&endpoints(port, address, slices)?);
            self.frontends
                .insert(frontend, Behind::Backends(ready, affinity));
        }
        Ok(())
    }

    /// What is there.
    pub fn held(agent: &Agent) -> Result<Self> {
        let dump = |map: &str| -> Result<Vec<Value>> {
            let document = agent.json(&["bpf", map])?;
            Ok(list(&document, "/items").to_vec())
        };
        let held = Held {
            services: by(dump("services")?, "id"),
            slots: by(dump("slots")?, "set"),
            backends: by(dump("backends")?, "id"),
        };
        let mut tables = Self::default();
        for row in dump("frontends")? {
            let frontend = (
                text(&row, "/address").parse()?,
                number(&row, "/port")?,
                text(&row, "/protocol").to_owned(),
            );
            let behind = if row["refuse"] == true {
                Behind::Nobody
            } else {
                behind(&row, &held)?
            };
            ensure!(
                tables.frontends.insert(frontend, behind).is_none(),
                "twice: {row}"
            );
        }
        Ok(tables)
    }

    /// Fails with what differs.
    pub fn ensure_are(&self, wanted: &Self) -> Result<()> {
        let keys = self.frontends.keys().chain(wanted.frontends.keys());
        let differ: Vec<String> = keys
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|key| (key, self.frontends.get(key), wanted.frontends.get(key)))
            .filter(|(_, held, wanted)| held != wanted)
            .map(|(key, held, wanted)| format!("{key:?}: held {held:?}, wanted {wanted:?}"))
            .collect();
        ensure!(differ.is_empty(), "{}", differ.join("\n"));
        Ok(())
    }
}

/// Rows by a number that they hold.
type Rows = BTreeMap<u64, Vec<Value>>;

fn by(rows: Vec<Value>, field: &str) -> Rows {
    let mut found = Rows::new();
    for row in rows {
        let number = row[field].as_u64().unwrap_or_default();
        found.entry(number).or_default().push(row);
    }
    found
}

/// What the frontends lead to.
struct Held {
    services: Rows,
    slots: Rows,
    backends: Rows,
}

fn rows<'a>(rows: &'a Rows, id: &Value) -> &'a [Value] {
    let found = id.as_u64().and_then(|id| rows.get(&id));
    found.map_or(&[], Vec::as_slice)
}

fn behind(frontend: &Value, held: &Held) -> Result<Behind> {
    let [service] = rows(&held.services, &frontend["service"]) else {
        anyhow::bail!("no service of {frontend}");
    };
    let affinity = service["affinitySeconds"].as_u64().context("seconds")?;
    let mut targets = BTreeSet::new();
    for slot in rows(&held.slots, &frontend["clusterSet"]) {
        let [backend] = rows(&held.backends, &slot["backend"]) else {
            anyhow::bail!("no backend of {slot}");
        };
        ensure!(backend["state"] == "ready", "{backend} in {slot}");
        let target = (
            text(backend, "/address").parse()?,
            number(backend, "/port")?,
        );
        ensure!(targets.insert(target), "{backend} is twice in a set");
    }
    Ok(Behind::Backends(targets, affinity))
}

/// Not headless, not by name, and not another proxy's.
fn is_served(service: &Value) -> bool {
    let proxy = "/metadata/labels/service.kubernetes.io~1service-proxy-name";
    text(service, "/spec/type") != "ExternalName"
        && text(service, "/spec/clusterIP") != "None"
        && service.pointer(proxy).is_none()
}

/// How good an endpoint is: ready, or terminating and still serving, or neither.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Nothing,
    LastResort,
    New,
}

/// The endpoints of a port of the slices' Service in the family of an address.
fn endpoints(port: &Value, address: IpAddr, slices: &[&Value]) -> Result<Vec<(Target, Use)>> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let slices = slices
        .iter()
        .filter(|slice| text(slice, "/addressType") == family);
    let mut found = Vec::new();
    for slice in slices {
        let target = list(slice, "/ports").iter().find(|candidate| {
            text(candidate, "/name") == text(port, "/name")
                && text(candidate, "/protocol") == text(port, "/protocol")
        });
        let Some(target) = target else { continue };
        for endpoint in list(slice, "/endpoints") {
            let address: IpAddr = text(endpoint, "/addresses/0").parse()?;
            found.push(((address, number(target, "/port")?), usable(endpoint)));
        }
    }
    Ok(found)
}

fn usable(endpoint: &Value) -> Use {
    let condition = |name: &str| endpoint.pointer(&format!("/conditions/{name}"))?.as_bool();
    let ready = condition("ready").unwrap_or(true);
    let serving = condition("serving").unwrap_or(ready);
    match (ready, serving && condition("terminating") == Some(true)) {
        (true, _) => Use::New,
        (false, true) => Use::LastResort,
        (false, false) => Use::Nothing,
    }
}

/// Those that are ready; if none is, those that terminate and still serve.
fn best(endpoints: &[(Target, Use)]) -> BTreeSet<Target> {
    let of = |wanted: Use| -> BTreeSet<Target> {
        let fit = endpoints.iter().filter(|(_, usable)| *usable == wanted);
        fit.map(|(target, _)| *target).collect()
    };
    let ready = of(Use::New);
    if ready.is_empty() {
        return of(Use::LastResort);
    }
    ready
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Result<u16> {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    let found = found.with_context(|| format!("no {pointer} in {value}"))?;
    Ok(found.try_into()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, address: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "a"},
            "spec": {"clusterIP": address, "clusterIPs": [address],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        })
    }

    fn slice(service: &str, endpoints: &Value) -> Value {
        json!({
            "metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    }

    fn behind(tables: &Tables) -> Vec<String> {
        let frontend = ("10.96.0.1".parse().unwrap(), 80, "TCP".to_owned());
        match &tables.frontends[&frontend] {
            Behind::Nobody => Vec::new(),
            Behind::Backends(targets, _) => targets
                .iter()
                .map(|(address, port)| format!("{address}:{port}"))
                .collect(),
        }
    }

    #[test]
    fn terminating_endpoints_are_the_last_resort() {
        let terminating = json!({
            "addresses": ["10.0.0.2"],
            "conditions": {"ready": false, "serving": true, "terminating": true},
        });
        let services = [service("x", "10.96.0.1"), service("none", "None")];
        let only = [slice("x", &json!([terminating]))];
        let tables = Tables::wanted(&services, &only).unwrap();
        assert_eq!(tables.frontends.len(), 2);
        assert_eq!(behind(&tables), ["10.0.0.2:8080"]);
        let ready = json!({"addresses": ["10.0.0.3"]});
        let both = [
            slice("x", &json!([terminating, ready])),
            slice("y", &json!([ready])),
        ];
        let tables = Tables::wanted(&services, &both).unwrap();
        assert_eq!(behind(&tables), ["10.0.0.3:8080"]);
        let other = Tables::wanted(&services, &only).unwrap();
        tables.ensure_are(&tables).unwrap();
        assert!(
            tables
                .ensure_are(&other)
                .unwrap_err()
                .to_string()
                .contains("10.0.0.3")
        );
    }
}
