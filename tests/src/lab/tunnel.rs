//! A tunnel between two nodes: an interface at each, whose packets have no link header, and a thread that carries them.

mod sys;

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, poll};

use super::{Address, Node, ip, netns};

/// Less than elsewhere: what is too long for it is not sent as it is.
const MTU: u32 = 1400;
/// How often the thread looks whether it is to end, in milliseconds.
const LOOK: u16 = 50;

/// The tunnel. Its interfaces go when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    ends: [Node; 2],
    over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// The name of its interface at both ends.
    pub const INTERFACE: &'static str = "tun0";

    /// Makes it. A node has one at most.
    pub fn between(one: &Node, two: &Node) -> Result<Self> {
        let ends = [one.clone(), two.clone()];
        let files = [end(one, 1)?, end(two, 2)?];
        let over = Arc::new(AtomicBool::new(false));
        let carrier = std::thread::spawn({
            let over = Arc::clone(&over);
            move || carry(&files, &over)
        });
        Ok(Self {
            ends,
            over,
            carrier: Some(carrier),
        })
    }

    /// Its addresses at an end: 172.30.0.1 and fd00:172:30::1, or 2 at the second one.
    #[must_use]
    pub const fn address(end: u8) -> Address {
        Address {
            v4: Some(Ipv4Addr::new(172, 30, 0, end)),
            v6: Some(Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, end as u16)),
        }
    }

    /// From now on the nodes reach each other's pods by it.
    pub fn carry_pods(&self) -> Result<()> {
        let [one, two] = &self.ends;
        for (node, other) in [(one, two), (two, one)] {
            let (v4, v6) = other.pod_ranges();
            let lines =
                [v4, v6].map(|range| format!("route replace {range} dev {}", Self::INTERFACE));
            netns::within(node.host().netns(), || ip::batch(&lines))?;
        }
        Ok(())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            carrier.join().ok();
        }
    }
}

fn end(node: &Node, number: u8) -> Result<File> {
    let name = Tunnel::INTERFACE;
    let address = Tunnel::address(number);
    let mut lines = vec![format!("link set {name} mtu {MTU} up")];
    lines.extend(address.v4.map(|v4| format!("addr add {v4}/24 dev {name}")));
    let v6 = address.v6;
    lines.extend(v6.map(|v6| format!("addr add {v6}/64 dev {name} nodad")));
    netns::within(node.host().netns(), || {
        let file = sys::open(name).context("no interface of /dev/net/tun")?;
        ip::batch(&lines)?;
        Ok(file)
    })
}

fn carry(files: &[File; 2], over: &AtomicBool) {
    let [one, two] = files;
    let mut buffer = vec![0; 1 << 16];
    while !over.load(Ordering::Relaxed) {
        let mut ready = [one, two].map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
        if poll(&mut ready, LOOK).is_err() {
            return;
        }
        for (mut from, mut to) in [(one, two), (two, one)] {
            while let Ok(length) = from.read(&mut buffer) {
                // What the other end does not take is lost, as in any network.
                to.write_all(&buffer[..length]).ok();
            }
        }
    }
}
