//! Entries of maps as bytes: every slice is checked against the sizes the kernel told before it is handed over.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{MapInfo, bpf, command, map_info, number, owned};

/// Maps whose look-up gives one value for each possible CPU.
const PER_CPU_KINDS: [u32; 2] = [5, 6];

/// Entries asked for in one batch.
const BATCH: u32 = 4096;

#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map: u32,
    pad: u32,
    key: u64,
    /// Of look-ups and updates; where the next key goes for MAP_GET_NEXT_KEY.
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    position: u64,
    next_position: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Opens a map by its id; needs CAP_SYS_ADMIN.
pub(in crate::datapath) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = [id, 0, 0];
    bpf(command::MAP_GET_FD_BY_ID, &mut attributes).and_then(owned)
}

/// Key and value of an entry.
pub(in crate::datapath) type Entry = (Vec<u8>, Vec<u8>);

/// A map whose sizes are known.
#[derive(Debug)]
pub(in crate::datapath) struct RawMap {
    fd: OwnedFd,
    info: MapInfo,
    /// Bytes of a value as look-ups give it.
    read_size: usize,
}

impl RawMap {
    /// Takes a descriptor over and asks the kernel for the sizes.
    pub(in crate::datapath) fn open(fd: OwnedFd) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        let value = info.value_size as usize;
        let read_size = if PER_CPU_KINDS.contains(&info.kind) {
            value.next_multiple_of(8) * possible_cpus()?
        } else {
            value
        };
        Ok(Self {
            fd,
            info,
            read_size,
        })
    }

    pub(in crate::datapath) const fn info(&self) -> &MapInfo {
        &self.info
    }

    pub(in crate::datapath) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let fits = key.len() == self.info.key_size as usize
            && value.is_none_or(|value| value.len() == self.read_size);
        if fits {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "key or value is not of the map's size",
        ))
    }

    /// Writes an entry. `flags` are BPF_ANY (0) and BPF_NOEXIST (1).
    pub(in crate::datapath) fn update(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attributes = ElementAttributes {
            map: number(self.fd()),
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags,
            ..Default::default()
        };
        bpf(command::MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    /// Deletes an entry; one that is not there is NotFound.
    pub(in crate::datapath) fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check(key, None)?;
        let mut attributes = ElementAttributes {
            map: number(self.fd()),
            key: key.as_ptr() as u64,
            ..Default::default()
        };
        bpf(command::MAP_DELETE_ELEM, &mut attributes).map(drop)
    }

    /// Reads an entry; for a map with values per CPU all of them, each rounded up to eight bytes.
    pub(in crate::datapath) fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key, None)?;
        let mut value = vec![0; self.read_size];
        let mut attributes = ElementAttributes {
            map: number(self.fd()),
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            ..Default::default()
        };
        match bpf(command::MAP_LOOKUP_ELEM, &mut attributes) {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        if let Some(key) = key {
            self.check(key, None)?;
        }
        let mut next = vec![0; self.info.key_size as usize];
        let mut attributes = ElementAttributes {
            map: number(self.fd()),
            key: key.map_or(0, |key| key.as_ptr() as u64),
            value: next.as_mut_ptr() as u64,
            ..Default::default()
        };
        match bpf(command::MAP_GET_NEXT_KEY, &mut attributes) {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every entry.
    pub(in crate::datapath) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.for_each(&mut |key, value| entries.push((key.to_vec(), value.to_vec())))?;
        Ok(entries)
    }

    /// Every entry in turn, in batches where the kernel has them (5.6), else one by one. One that comes or goes meanwhile
    /// may be seen or not, and others twice.
    pub(in crate::datapath) fn for_each(
        &self,
        see: &mut dyn FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        let mut seen = false;
        let batches = self.in_batches(&mut |key, value| {
            seen = true;
            see(key, value);
        });
        match batches {
            Err(_) if !seen => self.singly(see),
            result => result,
        }
    }

    fn in_batches(&self, see: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let count = BATCH.min(self.info.max_entries);
        let (key_size, value_size) = (self.info.key_size as usize, self.read_size);
        let mut keys = vec![0_u8; key_size * count as usize];
        let mut values = vec![0_u8; value_size * count as usize];
        // The position is a number of four bytes or a key, whichever the map's type likes.
        let mut position = vec![0_u8; key_size.max(8)];
        let mut next = position.clone();
        let mut first = true;
        loop {
            let mut attributes = BatchAttributes {
                position: if first { 0 } else { position.as_ptr() as u64 },
                next_position: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count,
                map: number(self.fd()),
                ..Default::default()
            };
            let result = bpf(command::MAP_LOOKUP_BATCH, &mut attributes);
            let at_the_end = match result {
                Ok(_) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            let pairs = keys
                .chunks_exact(key_size)
                .zip(values.chunks_exact(value_size));
            pairs
                .take(attributes.count as usize)
                .for_each(|(key, value)| see(key, value));
            if at_the_end {
                return Ok(());
            }
            std::mem::swap(&mut position, &mut next);
            first = false;
        }
    }

    /// Keys that go while this walks may make the kernel start over: the bound ends that.
    fn singly(&self, see: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut key: Option<Vec<u8>> = None;
        for _ in 0..self.info.max_entries {
            let Some(next) = self.next_key(key.as_deref())? else {
                break;
            };
            if let Some(value) = self.lookup(&next)? {
                see(&next, &value);
            }
            key = Some(next);
        }
        Ok(())
    }
}

/// How many CPUs the kernel keeps values for: those of `possible`, not those that are on.
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    parse_cpus(text.trim())
        .ok_or_else(|| io::Error::other(format!("/sys/devices/system/cpu/possible: {text:?}")))
}

fn parse_cpus(text: &str) -> Option<usize> {
    let mut most = 0;
    for range in text.split(',') {
        let last = range.rsplit('-').next()?;
        most = most.max(last.parse::<usize>().ok()? + 1);
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::parse_cpus;

    #[test]
    fn possible_cpus_are_counted_to_the_last() {
        assert_eq!(parse_cpus("0"), Some(1));
        assert_eq!(parse_cpus("0-3"), Some(4));
        assert_eq!(parse_cpus("0-3,8-11"), Some(12));
        assert_eq!(parse_cpus(""), None);
    }
}
