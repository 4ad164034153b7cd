//! Which health check servers run: those that Services ask for, as they come, change and go. One that cannot listen is
//! tried again, and its Service is told so.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::{
    admin::service_health::{HealthServer, HealthServers},
    desired::{Family, Finding, HealthCheck, Weight},
    model::{ObjectId, ObjectName},
    source::news::HEALTH_CHECK_FIELD,
};

/// How often a port that another had is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// And after one of our own servers was stopped, which may have had it.
const SOON: Duration = Duration::from_millis(100);

/// A server, by Service and family.
type Place = (ObjectName, Family);

/// What a server is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listen {
    addresses: Vec<IpAddr>,
    port: u16,
}

/// See the module.
pub(super) struct HealthChecks {
    servers: HealthServers,
    node: String,
    running: BTreeMap<Place, (Listen, HealthServer)>,
    failed: BTreeMap<Place, Finding>,
    /// The revision that was followed last, and the addresses of then.
    followed: Option<(u64, Option<BTreeSet<IpAddr>>)>,
    again: Option<Instant>,
}

impl HealthChecks {
    pub(super) fn new(servers: HealthServers, node: &str) -> Self {
        Self {
            servers,
            node: node.to_owned(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            followed: None,
            again: None,
        }
    }

    /// Starts and stops servers until those run that are wanted, on these addresses or, with None, on all. Whether `failures`
    /// may say something else now.
    pub(super) fn follow(
        &mut self,
        revision: u64,
        wanted: &BTreeMap<ObjectName, HealthCheck>,
        addresses: Option<BTreeSet<IpAddr>>,
    ) -> bool {
        let followed = Some((revision, addresses));
        let is_due = self.again.is_some_and(|at| at <= Instant::now());
        if self.followed == followed && !is_due {
            return false;
        }
        let addresses = followed.as_ref().and_then(|(_, it)| it.clone());
        self.followed = followed;
        let before = self.running.len();
        self.running.retain(|(name, family), (listen, _)| {
            let check = wanted.get(name);
            let new = check.and_then(|check| of(check, *family, addresses.as_ref()));
            new.as_ref() == Some(listen)
        });
        let has_stopped = self.running.len() < before;
        let old = std::mem::take(&mut self.failed);
        for (name, check) in wanted {
            for (family, local) in &check.local {
                let listen = of(check, *family, addresses.as_ref());
                self.ensure((name.clone(), *family), listen, *local);
            }
        }
        self.again = match (self.failed.is_empty(), has_stopped) {
            (true, _) => None,
            (false, true) => Some(Instant::now() + SOON),
            (false, false) => Some(Instant::now() + AGAIN),
        };
        old != self.failed
    }

    fn ensure(&mut self, place: Place, listen: Option<Listen>, local: usize) {
        let Some(listen) = listen.filter(|listen| !listen.addresses.is_empty()) else {
            return;
        };
        if let Some((_, server)) = self.running.get(&place) {
            server.set_local(local);
            return;
        }
        let started = self.servers.start(&place.0, &listen.addresses, listen.port);
        match started {
            Ok(server) => {
                tracing::debug!(service = %place.0, port = listen.port, "health checks are answered");
                server.set_local(local);
                self.running.insert(place, (listen, server));
            }
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                tracing::debug!(service = %place.0, "the node does not have the family of a health check");
            }
            Err(error) => {
                let finding = self.finding(&place, listen.port, &error);
                self.failed.insert(place, finding);
            }
        }
    }

    /// In kube-proxy's words, which people look for.
    fn finding(&self, (name, _): &Place, port: u16, error: &io::Error) -> Finding {
        Finding {
            object: ObjectId::service(name),
            field: HEALTH_CHECK_FIELD.to_owned(),
            reason: format!(
                "node {} failed to start healthcheck \"{name}\" on port {port}: {error}",
                self.node
            ),
            fix: format!(
                "stop what listens there (`ss -ltnp` on the node shows it): until then load balancers take the node for \
                 one without endpoints; tried again every {} s",
                AGAIN.as_secs()
            ),
            weight: Weight::Problem,
        }
    }

    /// One a Service, whatever the number of families.
    pub(super) fn failures(&self) -> BTreeMap<ObjectId, Finding> {
        let failed = self.failed.values();
        failed.map(|it| (it.object.clone(), it.clone())).collect()
    }

    /// When to follow again without a change.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.again
            .map(|at| at.saturating_duration_since(Instant::now()))
    }
}

/// Where the check of a family is to be answered; None where it is not wanted.
fn of(check: &HealthCheck, family: Family, addresses: Option<&BTreeSet<IpAddr>>) -> Option<Listen> {
    check.local.get(&family)?;
    let addresses = match addresses {
        None => vec![match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }],
        Some(own) => {
            let own = own.iter().copied();
            own.filter(|ip| Family::of((*ip).into()) == family)
                .collect()
        }
    };
    Some(Listen {
        addresses,
        port: check.port,
    })
}
