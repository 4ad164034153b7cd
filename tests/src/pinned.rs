//! The agent's pinned maps, read and changed from outside: what another's hand, or a defect, would do to them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use mesh_common::{
    Address, Backend, BackendId, FrontendKey, FrontendValue, MAPS, Plain, Port, Protocol, SetId,
    SetWord, SocketKey, SocketValue, bytes_of, from_bytes,
};

use crate::lab::Node;

const KEY: usize = size_of::<FrontendKey>();
const VALUE: usize = size_of::<FrontendValue>();
const SOCKET_KEY: usize = size_of::<SocketKey>();
const SOCKET: usize = size_of::<SocketValue>();
const BACKEND: usize = size_of::<Backend>();

type Frontends = HashMap<MapData, [u8; KEY], [u8; VALUE]>;

/// The maps that an agent on a node has pinned.
#[derive(Clone, Debug)]
pub struct PinnedMaps {
    bpffs: PathBuf,
}

impl PinnedMaps {
    /// Those of a node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self {
            bpffs: node.bpffs(),
        }
    }

    /// Every frontend.
    pub fn frontends(&self) -> Result<BTreeMap<FrontendKey, FrontendValue>> {
        let map = self.open_frontends()?;
        let mut found = BTreeMap::new();
        for entry in map.iter() {
            let (key, value) = entry?;
            found.insert(plain(&key)?, plain(&value)?);
        }
        Ok(found)
    }

    /// What stands behind a TCP frontend.
    pub fn frontend(&self, at: SocketAddr) -> Result<FrontendValue> {
        let found = self.frontends()?.get(&frontend_key(at)).copied();
        found.with_context(|| format!("there is no frontend {at}"))
    }

    /// Writes a frontend over whatever is there.
    pub fn put_frontend(&self, key: &FrontendKey, value: &FrontendValue) -> Result<()> {
        let key: [u8; KEY] = bytes_of(key).try_into()?;
        let value: [u8; VALUE] = bytes_of(value).try_into()?;
        Ok(self.open_frontends()?.insert(key, value, 0)?)
    }

    /// Takes a frontend out.
    pub fn remove_frontend(&self, key: &FrontendKey) -> Result<()> {
        Ok(self.open_frontends()?.remove(bytes_of(key).try_into()?)?)
    }

    /// The set of a frontend.
    pub fn set(&self, id: SetId) -> Result<SetWord> {
        self.word("sets", id).map(SetWord::from_word)
    }

    /// What stands behind a backend's id.
    pub fn backend(&self, id: BackendId) -> Result<Backend> {
        plain(&self.backends()?.get(&id, 0)?)
    }

    /// Writes a backend over whatever is there.
    pub fn put_backend(&self, id: BackendId, backend: &Backend) -> Result<()> {
        let backend: [u8; BACKEND] = bytes_of(backend).try_into()?;
        Ok(self.backends()?.set(id, backend, 0)?)
    }

    /// Writes an entry of a socket.
    pub fn put_socket(&self, key: &SocketKey, value: &SocketValue) -> Result<()> {
        let key: [u8; SOCKET_KEY] = bytes_of(key).try_into()?;
        let value: [u8; SOCKET] = bytes_of(value).try_into()?;
        let mut map =
            HashMap::<_, [u8; SOCKET_KEY], [u8; SOCKET]>::try_from(self.open("sockets")?)?;
        Ok(map.insert(key, value, 0)?)
    }

    /// A word of an array: `services`, `sets`, `slots` or `peer_cookies`.
    pub fn word(&self, map: &str, index: u32) -> Result<u64> {
        Ok(self.words(map)?.get(&index, 0)?)
    }

    /// Stores words into an array.
    pub fn store(&self, map: &str, words: impl IntoIterator<Item = (u32, u64)>) -> Result<()> {
        let mut array = self.words(map)?;
        for (index, word) in words {
            array.set(index, word, 0)?;
        }
        Ok(())
    }

    fn open_frontends(&self) -> Result<Frontends> {
        Ok(HashMap::try_from(self.open("frontends")?)?)
    }

    fn backends(&self) -> Result<Array<MapData, [u8; BACKEND]>> {
        Ok(Array::try_from(self.open("backends")?)?)
    }

    fn words(&self, map: &str) -> Result<Array<MapData, u64>> {
        Ok(Array::try_from(self.open(map)?)?)
    }

    fn open(&self, map: &str) -> Result<Map> {
        let spec = MAPS.iter().find(|spec| spec.name == map);
        let spec = spec.with_context(|| format!("{map} is no map"))?;
        let pin = self.bpffs.join(format!("{map}_v{}", spec.version));
        let data = MapData::from_pin(&pin).with_context(|| pin.display().to_string())?;
        Ok(Map::from_map_data(data)?)
    }
}

/// The key of a TCP frontend.
#[must_use]
pub fn frontend_key(at: SocketAddr) -> FrontendKey {
    let protocol = Protocol::Tcp.number();
    FrontendKey::new(Address::from(at.ip()), Port::new(at.port()), protocol)
}

fn plain<T: Plain>(bytes: &[u8]) -> Result<T> {
    from_bytes(bytes).context("an entry of another size")
}
