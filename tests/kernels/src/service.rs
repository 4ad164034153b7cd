//! Services in the maps, written by plain map updates.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use anyhow::{Context, Result};
use mesh_common::{
    Address, Backend, BackendState, BackendWord, FrontendKey, FrontendValue, Plain, Port, Protocol,
    SetWord, bytes_of,
};

use crate::sys;

/// The maps of the object.
pub(crate) struct Maps<'a>(&'a BTreeMap<String, OwnedFd>);

impl<'a> Maps<'a> {
    /// By their names in the object.
    pub(crate) fn new(maps: &'a BTreeMap<String, OwnedFd>) -> Self {
        Self(maps)
    }

    /// Lets a frontend be served by one backend. The number is this service port's alone and not 0: it names its
    /// entry in every array.
    pub(crate) fn serve(
        &self,
        number: u32,
        frontend: SocketAddr,
        protocol: Protocol,
        backend: SocketAddr,
    ) -> Result<()> {
        let word = BackendWord::new(Port::new(backend.port()), BackendState::Ready, 1);
        self.put(
            "backends",
            &number,
            &Backend::new(Address::from(backend.ip()), word),
        )?;
        self.put("slots", &number, &u64::from(number))?;
        self.put("sets", &number, &SetWord::new(number, 1).word())?;
        self.put("services", &number, &0_u64)?;
        let key = FrontendKey::new(
            Address::from(frontend.ip()),
            Port::new(frontend.port()),
            protocol.number(),
        );
        self.put("frontends", &key, &FrontendValue::new(number, number, 0))
    }

    /// Refuses the ports of an address that nothing else is said of.
    pub(crate) fn refuse_the_rest(&self, address: IpAddr) -> Result<()> {
        self.put(
            "frontends",
            &FrontendKey::whole_address(address.into()),
            &FrontendValue::refuse(),
        )
    }

    fn put<K: Plain, V: Plain>(&self, map: &str, key: &K, value: &V) -> Result<()> {
        let fd = self
            .0
            .get(map)
            .with_context(|| format!("the object has no map {map}"))?;
        sys::map_update(fd, bytes_of(key), bytes_of(value))
            .with_context(|| format!("cannot write map {map}"))
    }
}
