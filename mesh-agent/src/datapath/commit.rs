//! Puts a filled datapath in force: new maps pinned, hooks switched one by one with readers first, old pins removed
//! last. A kill at any point leaves pins from which the next start goes on: until the last hook is switched the old
//! tables are in force and pinned; after it and before their pins are replaced, the next start sees by the program in
//! force that the pinned tables are not its own, and fills new ones.

use std::{fs, os::fd::AsFd, path::PathBuf};

use mesh_common::{BEFORE, MAPS, MapKind, MapSpec, SocketKey};

use super::{
    Datapath, DatapathError, Hook,
    hooks::{CLIENTS, HOOKS, READERS},
    links,
    pins::{self, temporary},
    sys,
};
use crate::apply::WriteError;

/// A datagram's reply that takes longer is not waited for.
const UNDER_WAY: std::time::Duration = std::time::Duration::from_secs(1);

impl Datapath {
    /// Puts what was loaded and filled in force. May be called again after an error, and when it was called before.
    ///
    /// # Errors
    /// If the kernel refuses a pin or a hook; hooks that were not reached keep their old program.
    pub fn commit(&mut self) -> Result<(), DatapathError> {
        let new_tables = self.pin_new_maps()?;
        if self.forgets_choices {
            self.forget_choices()?;
            self.forgets_choices = false;
        }
        self.switch()?;
        for (from, to) in &new_tables {
            pins::replace(from, to)?;
        }
        for hook in &HOOKS {
            links::pin_program(&self.pins, hook, self.program(hook)?)?;
        }
        self.remove_old_pins()?;
        self.taken = MAPS.iter().map(|spec| spec.name).collect();
        Ok(())
    }

    /// Has connections looked at for who their clients are, as `commit` does, or no longer: it costs each of them something.
    /// What they have shown is forgotten then: it may change unseen.
    ///
    /// # Errors
    /// If the kernel refuses; then it may be called again.
    pub fn learn_clients(&mut self, asked: bool) -> Result<(), DatapathError> {
        match (asked, links::is_attached(&self.pins, &CLIENTS)) {
            (true, false) => self.attach(&CLIENTS),
            (false, true) => {
                links::detach(&self.pins, &CLIENTS)?;
                self.forget_clients()
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    fn forget_clients(&mut self) -> Result<(), DatapathError> {
        let learned = self.reader()?.learned_clients()?;
        let cookies: Vec<u64> = learned.into_keys().collect();
        emptied(
            "learned_clients",
            self.maps.delete_learned_clients(&cookies),
        )
    }

    fn attach(&self, hook: &Hook) -> Result<(), DatapathError> {
        links::attach(&self.pins, hook, self.program(hook)?, &self.cgroup).map(drop)
    }

    /// Readers first: they look into the flow map of the version before too. After a downgrade it is the programs in
    /// force that look into ours, so the writers come first, and the readers once what was under way has arrived.
    fn switch(&self) -> Result<(), DatapathError> {
        let attach = |hook: &Hook| self.attach(hook);
        if !self.is_downgrade {
            return HOOKS.iter().try_for_each(attach);
        }
        let (readers, writers) = HOOKS.split_at(READERS);
        writers.iter().rev().try_for_each(attach)?;
        std::thread::sleep(UNDER_WAY);
        readers.iter().rev().try_for_each(attach)
    }

    /// Deletes which backends unconnected sockets chose; whose replies are still to come stays.
    fn forget_choices(&mut self) -> Result<(), DatapathError> {
        let sockets = self.reader()?.sockets()?;
        let chosen = sockets
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key.kind() == SocketKey::CHOSEN);
        let chosen: Vec<SocketKey> = chosen.collect();
        emptied("sockets", self.maps.delete_sockets(&chosen))
    }

    /// Pins what is not pinned yet. Flow maps and counters take their names at once; tables when they are in force.
    fn pin_new_maps(&self) -> Result<Vec<(PathBuf, PathBuf)>, DatapathError> {
        let mut tables = Vec::new();
        for spec in MAPS.iter().filter(|spec| !self.taken.contains(&spec.name)) {
            let name = self.pins.map(spec);
            let new = temporary(&name);
            pins::remove(&new)?;
            let map = self
                .maps
                .raw(spec.name)
                .map_err(DatapathError::map("pin", spec.name))?;
            sys::object_pin(map.fd(), &new).map_err(DatapathError::path("cannot pin", &new))?;
            if spec.kind == MapKind::Derived {
                tables.push((new, name));
            } else {
                clear(&name)?;
                pins::replace(&new, &name)?;
            }
        }
        Ok(tables)
    }

    /// Other versions of maps, and versions of maps that this binary does not have.
    fn remove_old_pins(&self) -> Result<(), DatapathError> {
        for spec in &MAPS {
            for version in self.pins.versions(spec.name)? {
                let is_before =
                    BEFORE.is_some_and(|it| it.map == spec.name && it.version == version);
                if version != spec.version && !is_before {
                    pins::remove(&self.pins.version(spec.name, version))?;
                }
            }
        }
        let is_before =
            |name: &str| BEFORE.is_some_and(|it| name == format!("{}_v{}", it.map, it.version));
        let known = |name: &str| is_before(name) || MAPS.iter().any(|spec| is_pin_of(spec, name));
        for name in pins::list(self.pins.root())? {
            let path = self.pins.root().join(&name);
            if !known(&name) && !path.is_dir() {
                pins::remove(&path)?;
            }
        }
        Ok(())
    }

    fn program(&self, hook: &Hook) -> Result<std::os::fd::BorrowedFd<'_>, DatapathError> {
        self.programs
            .get(hook.name)
            .map(AsFd::as_fd)
            .ok_or_else(|| DatapathError::Load {
                object: format!("the program {}", hook.name),
                reason: "it is not in the eBPF object".to_owned(),
            })
    }
}

fn emptied(map: &'static str, result: Result<(), WriteError>) -> Result<(), DatapathError> {
    let cause = |error: WriteError| std::io::Error::other(error.to_string());
    result.map_err(|error| DatapathError::map("empty", map)(cause(error)))
}

fn is_pin_of(spec: &MapSpec, name: &str) -> bool {
    name == format!("{}_v{}", spec.name, spec.version)
}

/// A name may be held by an empty directory, over which nothing can be renamed.
fn clear(path: &std::path::Path) -> Result<(), DatapathError> {
    if path.is_dir() {
        return fs::remove_dir(path).map_err(DatapathError::path("cannot remove", path));
    }
    Ok(())
}
