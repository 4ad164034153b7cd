//! A cable between two namespaces: an interface of /dev/net/tun in each, and a thread that carries what they send.

mod sys;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, poll};

use super::netns;

/// How often the thread looks whether it is to end, in milliseconds.
const LOOK: u16 = 50;
/// A frame of the largest size that the kernel leaves in one piece, and what comes before it.
const LARGEST: usize = 1 << 17;

/// What goes through a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    /// Packets without a link header.
    Packets,
    /// Ethernet frames. Checksums and segments are left to whoever needs them, as hypervisors do it.
    Frames,
}

/// One end: the network namespace, and its interface's name there.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) netns: &'a Path,
    pub(super) interface: &'a str,
}

/// The cable. Its interfaces go when it is dropped.
#[derive(Debug)]
pub(super) struct Cable {
    over: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Cable {
    /// Makes it; its interfaces are down.
    pub(super) fn between(ends: [End<'_>; 2], carries: Carries) -> Result<Self> {
        let [one, two] = ends;
        let files = [open(one, carries)?, open(two, carries)?];
        let over = Arc::new(AtomicBool::new(false));
        let carrier = std::thread::spawn({
            let over = Arc::clone(&over);
            move || carry(&files, &over)
        });
        Ok(Self {
            over,
            carrier: Some(carrier),
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            carrier.join().ok();
        }
    }
}

fn open(end: End<'_>, carries: Carries) -> Result<File> {
    netns::within(end.netns, || {
        sys::open(end.interface, carries).context("no interface of /dev/net/tun")
    })
}

fn carry(files: &[File; 2], over: &AtomicBool) {
    let [one, two] = files;
    let mut buffer = vec![0; LARGEST];
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
