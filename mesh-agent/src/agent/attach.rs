//! The packet path follows the interfaces: the maps of interfaces and `clients` and the programs at each interface are
//! made what the last look at them asks for; what failed is tried again. Runs on the thread that follows the interfaces,
//! and not in anybody's turn to program: the kernel waits for a grace period with each program that it attaches anew (10 ms
//! and more), and changes of Services must not.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_common::{Address, ClientAddresses, Interface};

use super::shared::Shared;
use crate::{
    apply::WriteError,
    datapath::{
        DatapathError,
        tc::{Attacher, Outcome, Wanted, wanted},
    },
    interfaces::{self, Interfaces, Update},
};

/// What the kernel should have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Target {
    programs: Wanted,
    interfaces: BTreeMap<u32, Interface>,
    clients: BTreeMap<u64, ClientAddresses>,
}

/// See the module.
pub(super) struct Attachments(Mutex<State>);

struct State {
    shared: Arc<Shared>,
    attacher: Attacher,
    /// The maps are in force, and programs may use them.
    begun: bool,
    /// None until the first look.
    target: Option<Target>,
    /// What the maps hold; None before the first write, when they hold what an earlier run left.
    written: Option<Written>,
    /// The target is not, or not all, in force.
    is_due: bool,
    /// Every interface has been gone through since this agent's maps are in force.
    is_applied: bool,
}

/// Entries of the maps.
#[derive(Debug)]
struct Written {
    interfaces: BTreeMap<u32, Interface>,
    clients: BTreeMap<u64, ClientAddresses>,
}

/// Why not everything is as wanted.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Attachments {
    pub(super) fn new(shared: Arc<Shared>, attacher: Attacher) -> Self {
        Self(Mutex::new(State {
            shared,
            attacher,
            begun: false,
            target: None,
            written: None,
            is_due: false,
            is_applied: false,
        }))
    }

    /// Takes in what was seen last, and puts it in force once that has begun.
    pub(super) fn follow(&self, update: &Update) {
        for difference in &update.differences {
            if difference.is_alarm() {
                tracing::warn!("{difference}");
            } else {
                tracing::debug!("{difference}");
            }
        }
        let mut state = self.state();
        state.target = Some(target(update));
        state.is_due = true;
        state.put_in_force();
    }

    /// The maps are in force: from now on programs are attached.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.begun = true;
        state.put_in_force();
    }

    /// Tries again what failed, unless somebody is at it; whether everything is in force or soon will be.
    pub(super) fn retry(&self) -> bool {
        match self.0.try_lock() {
            Ok(mut state) => state.put_in_force(),
            Err(_) => true,
        }
    }

    /// Whether the programs of an earlier agent have been replaced, all but those that could not be.
    pub(super) fn is_applied(&self) -> bool {
        self.state().is_applied
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put_in_force(&mut self) -> bool {
        let Some(target) = self.target.as_ref().filter(|_| self.is_due && self.begun) else {
            return true;
        };
        self.is_due = match apply(&self.attacher, &mut self.written, target, &self.shared) {
            Ok(outcomes) => {
                self.is_applied = true;
                told(&outcomes)
            }
            Err(error) => {
                tracing::error!("{error}; trying again");
                true
            }
        };
        !self.is_due
    }
}

/// Whether any failed.
fn told(outcomes: &[Outcome]) -> bool {
    let mut failed = false;
    for outcome in outcomes {
        match &outcome.result {
            Ok(done) => {
                tracing::trace!(index = outcome.index, hook = outcome.hook, ?done, "hook");
            }
            Err(error) => {
                failed = true;
                tracing::error!("{error}");
            }
        }
    }
    failed
}

/// Addresses are there before the programs that look for them, and go after them.
fn apply(
    attacher: &Attacher,
    written: &mut Option<Written>,
    target: &Target,
    shared: &Shared,
) -> Result<Vec<Outcome>, AttachError> {
    let Written {
        interfaces,
        clients,
    } = match written {
        Some(written) => written,
        None => written.insert(Written {
            interfaces: shared.reader().interfaces()?,
            clients: shared.reader().clients()?,
        }),
    };
    for (&index, value) in &target.interfaces {
        if interfaces.get(&index) != Some(value) {
            let mut engine = shared.engine();
            engine.writer().maps.put_interface(index, value)?;
            interfaces.insert(index, *value);
        }
    }
    for (&cookie, value) in &target.clients {
        if clients.get(&cookie) != Some(value) {
            let mut engine = shared.engine();
            engine.writer().maps.put_client(cookie, value)?;
            clients.insert(cookie, *value);
        }
    }
    let outcomes = attacher.reconcile(&target.programs)?;
    for index in superfluous(interfaces, &target.interfaces) {
        shared.engine().writer().maps.delete_interface(index)?;
        interfaces.remove(&index);
    }
    for cookie in superfluous(clients, &target.clients) {
        shared.engine().writer().maps.delete_client(cookie)?;
        clients.remove(&cookie);
    }
    Ok(outcomes)
}

fn superfluous<K: Ord + Copy, V>(has: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Vec<K> {
    let has = has.keys().copied();
    has.filter(|key| !wanted.contains_key(key)).collect()
}

fn target(update: &Update) -> Target {
    let clients = update.clients.iter();
    let client = |(cookie, it): (&u64, &interfaces::ClientAddresses)| {
        let value = ClientAddresses::new(*cookie, or_none(it.v4), or_none(it.v6));
        (*cookie, value)
    };
    Target {
        programs: wanted(&update.interfaces),
        interfaces: sources(&update.interfaces),
        clients: clients.map(client).collect(),
    }
}

/// Which address stands for clients whose packets leave by an interface: a device's own, and at pods, where it is a pod
/// that meets itself, the node's.
fn sources(interfaces: &Interfaces) -> BTreeMap<u32, Interface> {
    let devices = || interfaces.devices.values();
    let node = Interface::new(
        or_none(devices().find_map(|device| device.v4)),
        or_none(devices().find_map(|device| device.v6)),
    );
    let pods = interfaces.pods.keys().map(|index| (*index, node));
    let own = interfaces.devices.iter().map(|(index, device)| {
        let own = Interface::new(or_none(device.v4), or_none(device.v6));
        (*index, own)
    });
    pods.chain(own).collect()
}

fn or_none(address: Option<impl Into<IpAddr>>) -> Address {
    address.map_or(Address::UNSPECIFIED, |address| {
        Address::from(address.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interfaces::{Device, PodLink};

    fn device(v4: &str) -> Device {
        Device {
            v4: Some(v4.parse().unwrap()),
            ..Default::default()
        }
    }

    #[test]
    fn a_device_has_its_own_address_and_a_pod_the_nodes() {
        let mut interfaces = Interfaces::default();
        interfaces.devices.insert(2, device("192.0.2.1"));
        interfaces.devices.insert(3, device("192.0.2.2"));
        interfaces.pods.insert(9, PodLink::default());
        let sources = sources(&interfaces);
        let address = |index: u32, is_v4| {
            let address = sources[&index].address(is_v4);
            address.map(|address| address.to_ip().to_string())
        };
        assert_eq!(address(2, true).as_deref(), Some("192.0.2.1"));
        assert_eq!(address(3, true).as_deref(), Some("192.0.2.2"));
        assert_eq!(address(9, true).as_deref(), Some("192.0.2.1"));
        assert_eq!(address(9, false), None);
    }

    #[test]
    fn an_update_says_who_the_clients_are() {
        let mut update = Update::default();
        let known = interfaces::ClientAddresses {
            v4: Some("10.1.0.2".parse().unwrap()),
            v6: None,
            local_pod: true,
        };
        update.clients.insert(77, known);
        let client = target(&update).clients[&77];
        let address = client.address(77, true).map(Address::to_ip);
        assert_eq!(address, Some("10.1.0.2".parse().unwrap()));
        assert_eq!(
            (client.address(77, false), client.address(78, true)),
            (None, None)
        );
    }

    #[test]
    fn what_is_not_wanted_is_superfluous() {
        let (has, wanted) = ([(1, ()), (2, ())].into(), [(2, ()), (3, ())].into());
        assert_eq!(superfluous(&has, &wanted), [1]);
    }
}
