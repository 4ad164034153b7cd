//! The agent's pinned maps, read and changed from outside: what another's hand, or a defect, would do to them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use mesh_common::{
    Address, Backend, BackendId, Direction, FlowKey, FlowLine, FlowValue, FrontendKey,
    FrontendValue, MAPS, Plain, Port, Protocol, Seen, SetId, SetWord, SocketKey, SocketValue,
    bytes_of, flow_lines, from_bytes, host_number, put_flow,
};
use nix::time::{ClockId, clock_gettime};

use crate::lab::Node;

const KEY: usize = size_of::<FrontendKey>();
const VALUE: usize = size_of::<FrontendValue>();
const SOCKET_KEY: usize = size_of::<SocketKey>();
const SOCKET: usize = size_of::<SocketValue>();
const BACKEND: usize = size_of::<Backend>();
const LINE: usize = size_of::<FlowLine>();

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

    /// Puts so many flows of two tuples each into `flows`, confirmed and as young as can be, where the programs would put
    /// them. Gives how many tuples found no place.
    pub fn fill_flows(&self, flows: u32) -> Result<u32> {
        let count = flow_lines(flows);
        let mut lines = vec![FlowLine::EMPTY; count as usize];
        let now = u32::try_from(clock_gettime(ClockId::CLOCK_MONOTONIC)?.tv_sec())?;
        let seed = host_number(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?);
        let tuples = (0..flows).flat_map(|number| flow(number, now));
        let refused = tuples.filter(|(key, value)| !put_flow(&mut lines, seed, (key, value), true));
        let refused = u32::try_from(refused.count())?;
        let mut map: Array<MapData, [u8; LINE]> = self.open("flows")?.try_into()?;
        for (number, line) in (0..).zip(&lines) {
            map.set(number, <[u8; LINE]>::try_from(bytes_of(line))?, 0)?;
        }
        Ok(refused)
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

/// Both tuples of an established connection of a client with this number.
fn flow(number: u32, now: u32) -> [(FlowKey, FlowValue); 2] {
    let end = |address: u32, port| (Address::from(Ipv4Addr::from_bits(address)), Port::new(port));
    let client = end(0x0a00_0000 | number >> 8, 1024 + (number & 0xff) as u16);
    let (frontend, backend) = (end(0x0a60_0001, 80), end(0x0af4_0001, 8080));
    let request = FlowKey::new(Direction::Ingress, Protocol::Tcp, client, frontend);
    let reply = request.reply(backend);
    let mut answered = FlowValue::reply(frontend, now);
    answered.note(Seen::ANY, now);
    [
        (request, FlowValue::request(backend, (1, 1), now)),
        (reply, answered),
    ]
}
