//! The packet path follows the interfaces: the maps `interfaces` and `clients` and the programs at each interface are
//! made what the last look at them asks for. Runs on the engine's thread; what failed is tried again.

use std::{collections::BTreeMap, net::IpAddr};

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
pub(super) struct Attachments {
    attacher: Attacher,
    /// None until the first look.
    target: Option<Target>,
    /// What the two maps hold; None before the first write, when they hold what an earlier run left.
    written: Option<Written>,
    /// The target is not, or not all, in force.
    is_due: bool,
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
    pub(super) fn new(attacher: Attacher) -> Self {
        Self {
            attacher,
            target: None,
            written: None,
            is_due: false,
        }
    }

    /// Takes in what was seen last.
    pub(super) fn take(&mut self, update: &Update) {
        for difference in &update.differences {
            if difference.is_alarm() {
                tracing::warn!("{difference}");
            } else {
                tracing::debug!("{difference}");
            }
        }
        self.target = Some(target(update));
        self.is_due = true;
    }

    /// Puts it in force; whether all of it is.
    pub(super) fn put_in_force(&mut self, shared: &Shared) -> bool {
        let Some(target) = self.target.as_ref().filter(|_| self.is_due) else {
            return true;
        };
        self.is_due = match apply(&self.attacher, &mut self.written, target, shared) {
            Ok(outcomes) => told(&outcomes),
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
